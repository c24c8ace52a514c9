package indexer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// shop is an upstream with a catalog, in pages of two.
type shop struct {
	repos map[string][]string // tags
	lists bool
}

func (s *shop) Repositories(_ context.Context, _, last string) ([]string, bool, error) {
	if !s.lists {
		return nil, false, fmt.Errorf("no: %w", ErrNotListed)
	}
	var names []string
	for name := range s.repos {
		names = append(names, name)
	}
	return pageOf(names, last)
}

func (s *shop) TagList(_ context.Context, repo oci.Repo, last string) ([]string, bool, error) {
	tags, ok := s.repos[repo.Name]
	if !ok {
		return nil, false, storage.ErrNotFound
	}
	return pageOf(tags, last)
}

func pageOf(all []string, last string) ([]string, bool, error) {
	all = slices.Sorted(slices.Values(all))
	all = slices.DeleteFunc(all, func(s string) bool { return s <= last })
	n := min(2, len(all))
	return all[:n], n < len(all), nil
}

// fetchLog is a Fetcher that notes what it is asked for.
type fetchLog struct {
	asked atomic.Value // func(string)
	hold  chan struct{}
}

func (f *fetchLog) ResolveTag(ctx context.Context, repo oci.Repo, tag string) (digest.Digest, error) {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	f.asked.Load().(func(string))(repo.Name + ":" + tag)
	return "", storage.ErrNotFound
}

func (f *fetchLog) FetchManifest(context.Context, oci.Repo, digest.Digest) error {
	return errors.New("not here")
}

func (f *fetchLog) FetchBlob(context.Context, oci.Repo, v1.Descriptor) error {
	return errors.New("not here")
}

func (f *fetchLog) OpenBlob(context.Context, oci.Repo, v1.Descriptor) (io.ReadCloser, error) {
	return nil, errors.New("not here")
}

// tasks lists them as KIND NAME:REFERENCE, with a ! where it failed.
func (w *world) tasks() (list []string) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		list = nil
		return tx.Tasks(func(t storage.TaskRow) error {
			s := string(t.Kind) + " " + t.Repo.Name + ":" + t.Reference
			if t.Failed {
				s += "!"
			}
			if t.Cancelled {
				s += " cancelled"
			}
			list = append(list, s)
			return nil
		})
	})
	slices.Sort(list)
	return list
}

// TestCatalog: a pattern finds the images at the upstream, or where it lists
// none, those that are known here, as far as a rule applies.
func TestCatalog(t *testing.T) {
	list := &digestList{}
	repos := map[string][]string{
		"acme/app":  {"1.0", "1.1", "1.2", "2.0", "1.0-debug", "sha256-" + strings.Repeat("a", 64)},
		"acme/base": {"1.0"},
		"acme/x/y":  {"1.0"}, "acme/out": {"1.0"}, "other/app": {"1.0"}, "zoo": {"1.9"},
	}
	for _, tc := range []struct {
		name, pattern, tags string
		lists               bool
		want                string
	}{
		{"all", "**", "*", true, "acme/app:1.0 acme/app:1.1 acme/app:1.2 acme/app:2.0 acme/base:1.0 acme/x/y:1.0 other/app:1.0 zoo:1.9"},
		{"one level", "acme/*", "1.*", true, "acme/app:1.0 acme/app:1.1 acme/app:1.2 acme/base:1.0"},
		{"one repository", "acme/app", "1.*", false, "acme/app:1.0 acme/app:1.1 acme/app:1.2"},
		{"no catalog", "**", "*", false, "acme/base:1.0"},
		{"none", "nothing", "*", true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fetchLog{}
				f.asked.Store(list.reset())
				w := start(t, t.TempDir(), Options{
					Rules: []Rule{{Repositories: []string{"up/**"}, Exclude: []string{"up/acme/out", "**:*-debug"}}},
					Fetch: f, List: &shop{repos, tc.lists},
				}, nil)
				w.check("put a tag", w.store.Update(t.Context(), func(tx storage.Tx) error {
					return tx.PutTag(storage.TagRow{Repo: oci.Repo{Upstream: "up", Name: "acme/base"}, Tag: "1.0", Digest: digest.FromString("x")})
				}))
				_, err := w.x.Catalog(t.Context(), oci.Repo{Upstream: "up", Name: tc.pattern}, tc.tags, nil)
				w.check("catalog", err)
				w.settle()
				if got := list.sorted(); got != tc.want {
					t.Errorf("asked for\n%s, want\n%s", got, tc.want)
				}
				var left []string // one that found nothing, so that somebody is told
				if tc.want == "" {
					left = []string{"catalog " + tc.pattern + ":" + tc.tags + "!"}
				}
				tasks := slices.DeleteFunc(w.tasks(), func(s string) bool { return !strings.HasPrefix(s, "catalog") })
				if !slices.Equal(tasks, left) {
					t.Errorf("left: %q, want %q", tasks, left)
				}
			})
		})
	}
}

// TestCatalogIsBounded: a long catalog has few tasks at once, goes on where it
// was after a restart, and is over when it is cancelled.
func TestCatalogIsBounded(t *testing.T) {
	list := &digestList{}
	var tags []string
	for i := range 300 {
		tags = append(tags, fmt.Sprintf("t%04d", i))
	}
	up := &shop{map[string][]string{"app": tags}, true}
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		f := &fetchLog{hold: make(chan struct{})}
		f.asked.Store(list.reset())
		o := Options{Rules: []Rule{{Repositories: []string{"**"}}}, Fetch: f, List: up}
		w := start(t, dir, o, nil)
		pattern := oci.Repo{Upstream: "up", Name: "**"}
		_, err := w.x.Catalog(t.Context(), pattern, "*", nil)
		w.check("catalog", err)
		time.Sleep(10 * time.Second)
		if n := len(w.tasks()); n < maxWaitingImages || n > maxWaitingImages+3 {
			t.Errorf("%d tasks at once", n)
		}
		w.stop()
		close(f.hold)
		w = start(t, dir, o, nil)
		time.Sleep(time.Minute)
		if got := strings.Fields(list.sorted()); len(got) != len(tags) || len(slices.Compact(got)) != len(tags) {
			t.Errorf("%d of %d images were asked for", len(got), len(tags))
		}
		// Cancelled, it files nothing more.
		f2 := &fetchLog{hold: make(chan struct{})}
		f2.asked.Store(list.reset())
		w.stop()
		w = start(t, t.TempDir(), Options{Rules: o.Rules, Fetch: f2, List: up}, nil)
		_, err = w.x.Catalog(t.Context(), pattern, "*", nil)
		w.check("catalog", err)
		time.Sleep(10 * time.Second)
		w.check("cancel", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTask(storage.TaskCatalog, pattern, "*") }))
		w.x.Wake()
		close(f2.hold)
		time.Sleep(time.Minute)
		if got := strings.Fields(list.sorted()); len(got) > maxWaitingImages+2 {
			t.Errorf("%d images were asked for after the catalog was cancelled", len(got))
		}
	})
}

// TestCancelledStaysSo: work that is under way ends when it is cancelled, and
// nothing but an operator has it begin again.
func TestCancelledStaysSo(t *testing.T) {
	list := &digestList{}
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		f := &fetchLog{hold: make(chan struct{})}
		f.asked.Store(list.reset())
		var busy atomic.Bool
		busy.Store(true)
		o := Options{Rules: everything, Fetch: f, Busy: busy.Load}
		img := newImage(t, "img", a)
		w := start(t, dir, o, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.check("image", w.x.Image(t.Context(), redis, oci.Reference{Tag: "7"}, nil))
		time.Sleep(5 * time.Second) // one waits, as clients are busy
		k := key{digest.FromBytes(a), everything[0].SpanSize}
		cancel := func() {
			w.check("cancel", w.store.Update(t.Context(), func(tx storage.Tx) error {
				j, err := tx.Job(k.layer, k.spanSize)
				task, terr := tx.Task(storage.TaskImage, redis, "7")
				j.Cancelled, task.Cancelled = true, true
				return errors.Join(err, terr, tx.PutJob(j), tx.PutTask(task))
			}))
			w.x.Wake()
		}
		busy.Store(false)
		time.Sleep(2 * time.Second) // the task is at it: it hangs
		w.wantIndex(img, a)         // and the layer is through
		cancelTask := func() {
			w.check("cancel", w.store.Update(t.Context(), func(tx storage.Tx) error {
				task, err := tx.Task(storage.TaskImage, redis, "7")
				task.Cancelled = true
				return errors.Join(err, tx.PutTask(task))
			}))
			w.x.Wake()
		}
		cancelTask()
		w.settle()
		if w.x.isRunning(work{kind: storage.TaskImage, repo: redis, ref: "7"}) {
			t.Error("the task goes on after it was cancelled")
		}
		w.x.Moved(redis, "7")
		w.check("filed again", w.x.putTasks(t.Context(), []storage.TaskRow{{Kind: storage.TaskImage, Repo: redis, Reference: "7", Created: w.x.now()}}))
		w.settle()
		if got := w.tasks(); !slices.Equal(got, []string{"image library/redis:7 cancelled"}) {
			t.Errorf("tasks %q", got)
		}
		w.stop()

		// A layer's job, over a restart and with rules that come again.
		dir = t.TempDir()
		busy.Store(true)
		w = start(t, dir, o, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.check("image", w.x.Image(t.Context(), redis, oci.Reference{Tag: "7"}, nil))
		time.Sleep(2 * time.Second)
		cancel()
		w.stop()
		busy.Store(false)
		w = start(t, dir, o, nil)
		w.x.SetRules(nil)
		w.x.SetRules(everything)
		w.manifest(redis, img)
		w.x.Whole(k.layer)
		time.Sleep(time.Hour)
		w.wantNoIndex(img)
		if jobs := w.jobs(); len(jobs) != 1 || !jobs[0].Cancelled {
			t.Errorf("jobs %+v", jobs)
		}
		row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
		w.check("want", w.x.Want(t.Context(), redis, row, storage.Asked{SpanSize: k.spanSize}))
		w.settle()
		w.wantIndex(img, a)
	})
}

// digestList collects names from many goroutines.
type digestList struct {
	names atomic.Pointer[[]string]
}

func (l *digestList) reset() func(string) {
	l.names.Store(&[]string{})
	return func(name string) {
		for {
			was := l.names.Load()
			now := append(slices.Clone(*was), name)
			if l.names.CompareAndSwap(was, &now) {
				return
			}
		}
	}
}

func (l *digestList) sorted() string {
	return strings.Join(slices.Sorted(slices.Values(*l.names.Load())), " ")
}
