package indexer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestSetRules: rules that change while it runs are applied to what is stored,
// as they are at a start.
func TestSetRules(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a, b)
		dir := t.TempDir()
		w := start(t, dir, Options{}, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.whole(b)
		w.settle()
		w.wantNoIndex(img)
		var listed []digest.Digest
		for _, rules := range [][]Rule{
			everything,
			{{Repositories: []string{"**"}, SpanSize: 128 << 10}},
			{{Repositories: []string{"docker.io/**"}, SpanSize: 128 << 10, MinLayerSize: 1}},
			everything,
		} {
			w.x.SetRules(rules)
			w.settle()
			listed = append(listed, w.wantIndex(img, a, b).Digest)
		}
		if listed[0] == listed[1] || listed[1] != listed[2] || listed[3] != listed[0] {
			t.Errorf("indexes %q: the first and last, and the two in between, are to be the same", listed)
		}
		w.x.SetRules(nil)
		w.settle()
		w.wantNoIndex(img)
		for _, d := range listed {
			w.read(d) // still there for who found it
		}
	})
}

// TestSetRulesWithoutWindow: of the index of the old rules and that of the new
// exactly one is listed at any moment.
func TestSetRulesWithoutWindow(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		bad := 0
		w := start(t, t.TempDir(), Options{Rules: everything}, func(s Store) Store {
			return &eachUpdate{Store: s, after: func(tx storage.Tx) error {
				n := 0
				err := tx.Referrers(img.digest, func(storage.ReferrerRow) error { n++; return nil })
				row, ierr := tx.Image(img.digest)
				if ierr == nil && row.Index != "" && n != 1 {
					bad++
				}
				return err
			}}
		})
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		first := w.wantIndex(img, a).Digest
		w.x.SetRules([]Rule{{Repositories: []string{"**"}, SpanSize: 128 << 10}})
		w.settle()
		if w.wantIndex(img, a).Digest == first {
			t.Error("the index is that of the old rules")
		}
		if bad > 0 {
			t.Errorf("%d transactions left two or none listed", bad)
		}
	})
}

// eachUpdate looks at what each transaction leaves.
type eachUpdate struct {
	Store
	after func(storage.Tx) error
}

func (s *eachUpdate) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return s.Store.Update(ctx, func(tx storage.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return s.after(tx)
	})
}

func (s *eachUpdate) Put(ctx context.Context, row storage.BlobRow, body []byte, more func(storage.Tx) error) error {
	return s.Store.Put(ctx, row, body, func(tx storage.Tx) error {
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		return s.after(tx)
	})
}

// TestStoredBeforeIndexing: images that came while nothing was indexed are
// indexed from the store once something is.
func TestStoredBeforeIndexing(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		dir := t.TempDir()
		w := start(t, dir, Options{Rules: everything, Disabled: true}, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.check("put rows", w.store.Update(t.Context(), func(tx storage.Tx) error {
			return errors.Join(tx.PutRight(redis, img.digest), tx.PutRight(redis, digest.FromBytes(a)),
				tx.PutManifest(storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}))
		}))
		w.settle()
		w.stop()
		w = start(t, dir, Options{Rules: everything}, nil)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestPriorityChange: what waits is sorted by the rules of today, and what
// nobody wants any more waits no longer.
func TestPriorityChange(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	nginx := oci.Repo{Upstream: "docker.io", Name: "library/nginx"}
	inBubble(t, func(t *testing.T) {
		var busy atomic.Bool
		busy.Store(true)
		w := start(t, t.TempDir(), Options{Rules: everything, Busy: busy.Load}, nil)
		for repo, l := range map[oci.Repo][]byte{redis: a, nginx: b} {
			w.manifest(repo, newImage(t, repo.Name, l))
			w.whole(l)
		}
		time.Sleep(2 * time.Second)
		rule := everything[0]
		rule.Repositories, rule.Priority = []string{"nginx"}, 5
		w.x.SetRules([]Rule{rule})
		time.Sleep(2 * time.Second)
		jobs := w.jobs()
		if len(jobs) != 1 || jobs[0].Layer.Repo != nginx || jobs[0].Priority != 5 {
			t.Errorf("jobs %+v, want that of nginx with priority 5", jobs)
		}
		busy.Store(false)
		time.Sleep(2 * time.Second)
		if n := len(w.jobs()); n != 0 {
			t.Errorf("%d jobs left", n)
		}
	})
}
