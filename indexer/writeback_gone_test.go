package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// deleter is an origin that deletes manifests by their digest, and with them their
// tags.
type deleter struct {
	*origin
	refuses bool
	faults  int // so many deletions fail
}

func (o *deleter) Unlist(ctx context.Context, repo oci.Repo, subject, d digest.Digest, fallback bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.faults > 0:
		o.faults--
		return errors.New("trouble")
	case o.refuses:
		return fmt.Errorf("no: %w", ErrRefused)
	}
	o.lists[subject] = slices.DeleteFunc(o.lists[subject], func(x v1.Descriptor) bool { return x.Digest == d })
	o.remove(d)
	return nil
}

// remove deletes a manifest; the caller holds mu, or is alone.
func (o *deleter) remove(d digest.Digest) {
	delete(o.manifests, d)
	maps.DeleteFunc(o.tags, func(_ string, to digest.Digest) bool { return to == d })
}

func (o *deleter) has(d digest.Digest) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.manifests[d] != nil
}

// pushTask is the one of d; the zero one when there is none.
func (w *world) pushTask(d digest.Digest) (t storage.TaskRow) {
	w.view(func(tx storage.Tx) (err error) {
		t, err = tx.Task(storage.TaskPush, redis, d.String())
		return ignoreNotFound(err)
	})
	return t
}

// retry is what an operator does with a task that was given up.
func (w *world) retry(t storage.TaskRow) {
	t.Failed, t.Attempts, t.NotBefore = false, 0, time.Time{}
	w.check("retry", w.store.Update(w.t.Context(), func(tx storage.Tx) error { return tx.PutTask(t) }))
	w.x.Wake()
	w.settle()
}

// wantAway wants nothing to be left to do, or to be known at the upstream, of d.
func (w *world) wantAway(when string, d digest.Digest) {
	w.t.Helper()
	if rows, tasks := w.published(d), w.tasks(); len(rows)+len(tasks) > 0 {
		w.t.Errorf("%s: filed %+v, tasks %q, %s", when, rows, tasks, w.pushTask(d).LastError)
	}
}

// wantKept wants a task that was given up, and says so.
func (w *world) wantKept(d digest.Digest, words ...string) storage.TaskRow {
	w.t.Helper()
	task := w.pushTask(d)
	for _, s := range words {
		if !task.Failed || !strings.Contains(task.LastError, s) {
			w.t.Errorf("of what is kept is said %+v, want %q", task, s)
		}
	}
	return task
}

// TestTakesAwayV1: with an image that is deleted at its upstream goes the index that
// was put beside it: through trouble and over a restart, or it is said why not. With
// an image that is pushed again it is there again.
func TestTakesAwayV1(t *testing.T) {
	a := newLayer(t, 1)
	rules := []Rule{{Repositories: []string{"**"}, SpanSize: 64 << 10, Publish: PublishV1, PublishUpstream: PublishV1}}
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := &deleter{origin: newOrigin(t)}
		up.manifests[img.digest] = img.body
		dir := t.TempDir()
		begin := func() *world {
			return start(t, dir, Options{Rules: rules, Publish: up, Fetch: newSupply(layout{})}, nil)
		}
		w := begin()
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		index := w.wantIndex(img, a).Digest
		wantListed := func(when string) {
			t.Helper()
			rows := w.published(img.digest)
			if !slices.Equal(up.listed(img.digest), []digest.Digest{index}) || len(rows) != 1 || !rows[0].Made || rows[0].Begun || rows[0].Gone || len(w.tasks()) > 0 {
				t.Fatalf("%s: listed %v, filed %+v, tasks %q", when, up.listed(img.digest), rows, w.tasks())
			}
		}
		wantListed("at first")

		up.remove(img.digest)
		up.faults = 1
		w.x.Deleted(t.Context(), redis, img.digest)
		w.settle()
		if task := w.pushTask(img.digest); task.Failed || task.Attempts != 1 || len(w.published(img.digest)) != 1 {
			t.Errorf("in trouble: %+v", task)
		}
		w.stop() // as if killed: what is known is what is filed
		w = begin()
		time.Sleep(time.Hour)
		w.wantAway("deleted", img.digest)
		if up.has(index) || len(up.listed(img.digest)) > 0 {
			t.Errorf("listed %v", up.listed(img.digest))
		}
		w.x.SetRules(slices.Clone(rules))
		w.settle()
		w.wantAway("looked at once more", img.digest)

		up.manifests[img.digest] = img.body
		w.manifest(redis, img)
		w.settle()
		wantListed("pushed again")

		up.refuses = true
		up.remove(img.digest)
		w.x.Deleted(t.Context(), redis, img.digest)
		w.settle()
		w.wantKept(img.digest, "still lists "+index.String(), "was deleted", "permit deletion")
		up.manifests[img.digest] = img.body
		w.manifest(redis, img)
		w.settle()
		wantListed("pushed again after that")

		up.remove(img.digest)
		w.x.Deleted(t.Context(), redis, img.digest)
		w.settle()
		up.refuses = false
		w.retry(w.wantKept(img.digest, "still lists"))
		w.wantAway("retried", img.digest)

		up.manifests[img.digest] = img.body
		w.manifest(redis, img)
		w.settle()
		wantListed("pushed a third time")
		w.x.Deleted(t.Context(), redis, img.digest) // and it is there again already
		w.settle()
		up.lists[img.digest] = nil // as upstreams do where what they refer to is deleted
		delete(up.manifests, index)
		w.manifest(redis, img)
		w.settle()
		wantListed("pushed again before it was looked")
	})
}

// TestTakesAwayV2: so does the converted image, with the tags that lead to it, and no
// others.
func TestTakesAwayV2(t *testing.T) {
	c := readConversions(t)[0]
	rule := Rule{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: c.spanSize, PublishUpstream: PublishV2}
	other := []byte(`{"schemaVersion":2}`)
	for _, tc := range []struct {
		name    string
		prepare func(*deleter)
		kept    bool // by the upstream, and a tag leads to it
		leads   digest.Digest
	}{
		{"deleted", func(*deleter) {}, false, ""},
		{"the tag leads elsewhere", func(o *deleter) { o.tags["7-soci"] = digest.FromBytes(other) }, false, digest.FromBytes(other)},
		{"refused", func(o *deleter) { o.refuses = true }, true, ""},
		{"refused, the tag leads elsewhere", func(o *deleter) { o.refuses, o.tags["7-soci"] = true, digest.FromBytes(other) }, false, digest.FromBytes(other)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				up := &deleter{origin: newOrigin(t)}
				up.manifests[digest.FromBytes(other)] = other
				w, source := pulledFrom(t, up.origin, c, Options{Rules: []Rule{rule}, Publish: up})
				row, _ := w.conversion(source)
				if up.tags["7-soci"] != row.Index.Digest || row.Index.Digest == "" {
					t.Fatalf("7-soci leads to %q, want %q", up.tags["7-soci"], row.Index.Digest)
				}
				tc.prepare(up)
				up.remove(source)
				w.check("forget the tag", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(redis, "7") }))
				w.x.Deleted(t.Context(), redis, source)
				w.settle()
				if tc.kept {
					task := w.wantKept(source, "still has "+row.Index.Digest.String(), "was deleted", "permit deletion", "7-soci leads to it")
					w.x.SetRules([]Rule{rule})
					w.settle()
					if got := w.pushTask(source); got.Created != task.Created || !got.Failed {
						t.Errorf("it is begun anew by itself: %+v", got)
					}
					delete(up.tags, "7-soci") // by a person
					w.retry(task)
				}
				w.wantAway("in the end", source)
				if up.tags["7-soci"] != tc.leads || up.has(row.Index.Digest) != up.refuses {
					t.Errorf("7-soci leads to %q, want %q; the image is there: %t", up.tags["7-soci"], tc.leads, up.has(row.Index.Digest))
				}
			})
		})
	}
}

// TestDeletedBeforePushed: what is left to do, or was given up, of an image that was
// deleted is not left to do any more.
func TestDeletedBeforePushed(t *testing.T) {
	a := newLayer(t, 1)
	rules := []Rule{{Repositories: []string{"**"}, SpanSize: 64 << 10, Publish: PublishV1, PublishUpstream: PublishV1}}
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := newOrigin(t)
		up.has(img)
		up.refuse = fmt.Errorf("immutable: %w", ErrRefused)
		w := start(t, t.TempDir(), Options{Rules: rules, Publish: up, Fetch: newSupply(layout{})}, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		w.wantKept(img.digest, "immutable")
		w.x.Deleted(t.Context(), redis, img.digest)
		w.settle()
		w.x.SetRules(slices.Clone(rules))
		w.settle()
		w.wantAway("deleted", img.digest)
		w.x.Deleted(t.Context(), redis, digest.FromString("nobody knows it"))
		w.settle()
		if got := w.tasks(); len(got) > 0 {
			t.Errorf("tasks %q", got)
		}
	})
}
