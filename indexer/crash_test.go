package indexer

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestCrash stops everything at each write, before or after it took place, and
// starts anew over what is there: the end is the same index.
func TestCrash(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	pulls := map[string]func(w *world, body []byte){
		"tap":   func(w *world, body []byte) { w.tap(body); w.keep(body) },
		"whole": func(w *world, body []byte) { w.whole(body) },
	}
	indexes := map[digest.Digest]bool{}
	for way, pull := range pulls {
		for _, done := range []bool{false, true} {
			for n, crashed := int64(1), true; crashed; n++ {
				t.Run(fmt.Sprintf("%s, write %d, done %v", way, n, done), func(t *testing.T) {
					inBubble(t, func(t *testing.T) {
						var d digest.Digest
						d, crashed = crash(t, n, done, newImage(t, "img", a, b), a, b, pull)
						indexes[d] = true
					})
				})
			}
		}
	}
	if len(indexes) != 1 {
		t.Errorf("indexes %v, want one", indexes)
	}
}

// crash reports whether there was an nth write to crash at.
func crash(t *testing.T, n int64, done bool, img *image, a, b []byte, pull func(*world, []byte)) (digest.Digest, bool) {
	t.Helper()
	dir := t.TempDir()
	var f *faulty
	w := start(t, dir, Options{Rules: everything}, func(s Store) Store {
		f = &faulty{Store: s}
		f.fault = func(i int64) (bool, bool) { return i >= n, i == n && done }
		return f
	})
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	noted := w.x.Manifest(t.Context(), redis, row)
	pull(w, a)
	w.settle()
	pull(w, b)
	w.settle()
	w.stop()
	crashed := f.writes.Load() >= n

	w = start(t, dir, Options{Rules: everything}, nil)
	if noted != nil {
		w.manifest(redis, img) // the client asks again
	}
	w.settle()
	return w.wantIndex(img, a, b).Digest, crashed
}

// TestRowsChangeWhilePublishing: what is listed follows from the rows as they
// are in the transaction that lists it.
func TestRowsChangeWhilePublishing(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		var w *world
		var once sync.Once
		w = start(t, t.TempDir(), Options{Rules: everything}, func(s Store) Store {
			return &hookedStore{s, func(row storage.BlobRow) {
				if row.Digest == oci.EmptyDigest {
					return
				}
				once.Do(func() {
					w.check("withdraw", w.store.Update(t.Context(), func(tx storage.Tx) error {
						l, err := tx.Layer(digest.FromBytes(b), everything[0].SpanSize)
						if err != nil {
							return err
						}
						l.State = storage.LayerSkipped
						return tx.PutLayer(l)
					}))
				})
			}}
		})
		img := newImage(t, "img", a, b)
		w.manifest(redis, img)
		w.tap(a)
		w.settle()
		w.tap(b)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestPublicationFails: the list is written when the store takes it again.
func TestPublicationFails(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		var broken atomic.Bool
		w := start(t, t.TempDir(), Options{Rules: everything}, func(s Store) Store { return &fullStore{s, &broken} })
		img := newImage(t, "img", a)
		w.manifest(redis, img)
		broken.Store(true)
		w.tap(a)
		w.settle()
		w.wantNoIndex(img)
		time.Sleep(3 * retryPause)
		w.settle()
		w.wantNoIndex(img)
		broken.Store(false)
		time.Sleep(retryPause)
		w.settle()
		w.wantIndex(img, a)
	})
}
