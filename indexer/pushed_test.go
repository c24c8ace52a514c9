package indexer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestPushed: pushes that a rule wants are filed, once each, and survive a
// restart; lists of referrers, signatures and what was made here are not.
func TestPushed(t *testing.T) {
	list := &digestList{}
	inBubble(t, func(t *testing.T) {
		f := &fetchLog{hold: make(chan struct{})}
		f.asked.Store(list.reset())
		dir := t.TempDir()
		o := Options{Rules: []Rule{{Repositories: []string{"docker.io/**"}, Exclude: []string{"**:*-debug"}}}, Fetch: f}
		w := start(t, dir, o, nil)
		made := digest.FromString("made")
		w.check("put a row", w.store.Update(t.Context(), func(tx storage.Tx) error {
			return errors.Join(tx.PutBlob(storage.BlobRow{Digest: made, Kind: storage.KindIndex}),
				tx.PutTag(storage.TagRow{Repo: redis, Tag: "7", Digest: digest.FromString("old"), Checked: time.Now()}))
		}))
		d := digest.FromString("new")
		sig := "sha256-" + strings.Repeat("a", 64)
		pushes := []oci.Pushed{
			{Repo: redis, Tag: "7", Digest: d}, {Repo: redis, Tag: "8"}, {Repo: redis, Digest: d}, {Repo: redis, Tag: "8-debug"},
			{Repo: oci.Repo{Upstream: "ghcr.io", Name: "a"}, Tag: "1"}, {Repo: redis, Tag: sig}, {Repo: redis, Tag: sig + ".sig"},
			{Repo: redis, Tag: "7-soci", Digest: made}, {Repo: redis, Digest: made},
		}
		for i, want := range []int{3, 0} {
			if n, err := w.x.Pushed(t.Context(), pushes[:]); n != want && i == 0 || err != nil {
				t.Errorf("filed %d, %v, want %d", n, err, want)
			}
		}
		w.view(func(tx storage.Tx) error {
			row, err := tx.Tag(redis, "7")
			if !row.Checked.IsZero() {
				t.Error("the tag is still believed")
			}
			return err
		})
		w.stop()
		close(f.hold)
		w = start(t, dir, o, nil)
		time.Sleep(10 * time.Minute)
		if got := strings.Fields(list.sorted()); !slices.Contains(got, "library/redis:7") || !slices.Contains(got, "library/redis:8") || len(slices.Compact(got)) != 2 {
			t.Errorf("asked for %q", got)
		}
		for _, s := range w.tasks() {
			if !strings.HasSuffix(s, "!") && !strings.Contains(s, "sha256:") {
				t.Errorf("left: %s", s)
			}
		}
	})
}

// TestPushedCancelled: what was cancelled does not come back by being told again,
// but another push of the tag is another matter.
func TestPushedCancelled(t *testing.T) {
	list := &digestList{}
	inBubble(t, func(t *testing.T) {
		f := &fetchLog{hold: make(chan struct{})}
		f.asked.Store(list.reset())
		w := start(t, t.TempDir(), Options{Rules: everything, Fetch: f}, nil)
		push := oci.Pushed{Repo: redis, Tag: "7", Digest: digest.FromString("a")}
		filed := func(p oci.Pushed) int {
			n, err := w.x.Pushed(t.Context(), []oci.Pushed{p})
			w.check("pushed", err)
			return n
		}
		if filed(push) != 1 {
			t.Error("not filed")
		}
		w.check("cancel", w.store.Update(t.Context(), func(tx storage.Tx) error {
			task, err := tx.Task(storage.TaskImage, redis, "7")
			task.Cancelled = true
			return errors.Join(err, tx.PutTask(task))
		}))
		w.x.Wake()
		w.settle()
		if filed(push) != 0 {
			t.Error("a replay has it begin again")
		}
		push.Digest = digest.FromString("b")
		if filed(push) != 1 {
			t.Error("another push is not filed")
		}
		close(f.hold)
		time.Sleep(time.Minute)
	})
}

// TestPushedShowsLater: an image of a push that was told of is looked for more than
// once, with a digest or without; one that a person asked for is not.
func TestPushedShowsLater(t *testing.T) {
	list := &digestList{}
	inBubble(t, func(t *testing.T) {
		f := &fetchLog{}
		f.asked.Store(list.reset())
		w := start(t, t.TempDir(), Options{Rules: everything, Fetch: f}, nil)
		_, err := w.x.Pushed(t.Context(), []oci.Pushed{{Repo: redis, Tag: "told"}, {Repo: redis, Tag: "digest", Digest: digest.FromString("new")}})
		w.check("told", err)
		w.check("asked", w.x.Image(t.Context(), redis, oci.Reference{Tag: "asked"}, nil))
		time.Sleep(10 * time.Minute)
		counts := map[string]int{}
		for _, s := range strings.Fields(list.sorted()) {
			counts[strings.TrimPrefix(s, redis.Name+":")]++
		}
		for tag, want := range map[string]int{"told": 1 + notThereTries, "digest": 1 + notThereTries, "asked": 1} {
			if counts[tag] != want {
				t.Errorf("asked %d times for %s, want %d", counts[tag], tag, want)
			}
		}
		if got, want := w.tasks(), []string{"asked!", "digest!", "told!"}; len(got) != len(want) {
			t.Errorf("left: %q", got)
		}
	})
}

// TestPushedShowsSoon: a registry tells of a manifest and files its tag a moment
// later. That is no failure, and the image is found within a second.
func TestPushedShowsSoon(t *testing.T) {
	for _, tc := range []struct {
		name   string
		after  time.Duration // the tag is shown
		within time.Duration // it is looked for again
		warned bool
	}{
		{"soon", 150 * time.Millisecond, 500 * time.Millisecond, false},
		{"later", time.Second, 1500 * time.Millisecond, false},
		{"late", 2 * time.Second, 10 * time.Second, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log bytes.Buffer
				f := &lateTag{since: time.Now().Add(tc.after)}
				w := start(t, t.TempDir(), Options{
					Rules: everything, Fetch: f, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
				}, nil)
				_, err := w.x.Pushed(t.Context(), []oci.Pushed{{Repo: redis, Tag: "7"}})
				w.check("pushed", err)
				time.Sleep(tc.within)
				w.settle()
				if !f.found.Load() {
					t.Errorf("not found %s after it was told of, shown after %s", tc.within, tc.after)
				}
				w.stop()
				if got := strings.Contains(log.String(), "task failed"); got != tc.warned {
					t.Errorf("warned: %t, want %t:\n%s", got, tc.warned, log.String())
				}
			})
		})
	}
}

// lateTag is a Fetcher that has a tag from some moment on.
type lateTag struct {
	fetchLog
	since time.Time
	found atomic.Bool
}

func (f *lateTag) ResolveTag(context.Context, oci.Repo, string) (digest.Digest, error) {
	if time.Now().Before(f.since) {
		return "", storage.ErrNotFound
	}
	f.found.Store(true)
	return digest.FromString("there"), nil
}

// FetchManifest waits: what becomes of the image is another test's.
func (f *lateTag) FetchManifest(ctx context.Context, _ oci.Repo, _ digest.Digest) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
