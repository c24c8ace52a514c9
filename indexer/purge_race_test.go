package indexer

import (
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// startHooked is startSupplied for an image that is here and that no rule wants
// yet; hook runs before each Put once it is called with what to do.
func startHooked(t *testing.T) (w *world, s *supply, source digest.Digest, hook func(func(storage.BlobRow))) {
	t.Helper()
	before := func(storage.BlobRow) {}
	s = newSupply(layout{t, "testdata/images/buildkit/before"})
	w = start(t, t.TempDir(), Options{Fetch: s}, func(inner Store) Store {
		return &hookedStore{inner, func(row storage.BlobRow) { before(row) }}
	})
	s.w = w
	source = s.pull(t, "7", "linux/amd64", "linux/arm64")
	w.settle()
	return w, s, source, func(do func(storage.BlobRow)) { before = do }
}

// left gives what is stored, but for the config that all SOCI indexes share.
func (w *world) left() (rows []storage.BlobRow) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		rows = nil
		return tx.Blobs(func(b storage.BlobRow) error {
			if b.Digest != oci.EmptyDigest {
				rows = append(rows, b)
			}
			return nil
		})
	})
	return rows
}

// TestPurgeWhileMaking: what is being made of an image while that is purged is not
// filed any more, and nothing of it stays.
func TestPurgeWhileMaking(t *testing.T) {
	for _, tc := range []struct {
		name    string
		publish string
		at      int // the purge comes before that many indexes and manifests are stored
	}{
		{"index", PublishV1, 1},
		{"second index", PublishV1, 2},
		{"conversion begins", PublishV2, 1},
		{"conversion half-way", PublishV2, 3},
		{"conversion ends", PublishV2, 9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w, _, source, hook := startHooked(t)
				n := 0
				var mu sync.Mutex
				hook(func(row storage.BlobRow) {
					mu.Lock()
					defer mu.Unlock()
					if row.Kind != storage.KindIndex || row.Digest == oci.EmptyDigest {
						return
					}
					if n++; n == tc.at {
						_, err := w.store.PurgeImage(t.Context(), storage.PurgeOptions{Repo: redis, Root: source})
						w.check("purge", err)
					}
				})
				w.x.SetRules([]Rule{{
					Repositories: []string{"redis"}, Platforms: []string{"linux/amd64", "linux/arm64"},
					MinLayerSize: 20000, SpanSize: 65536, Publish: tc.publish,
				}})
				w.settle()
				for range 60 { // what was put off is tried again
					if n >= tc.at {
						break
					}
					time.Sleep(time.Minute)
					w.settle()
				}
				if n < tc.at {
					t.Fatalf("%d were stored, so nothing was purged", n)
				}
				for _, b := range w.left() {
					t.Errorf("left: %+v", b)
				}
				if _, ok := w.conversion(source); ok || w.convertedTag("7") != "" || len(w.tasks()) > 0 {
					t.Errorf("its rows are here, tasks %q", w.tasks())
				}
			})
		})
	}
}

// TestAbandonedConversion: what a conversion stored that the rules of by then made
// useless goes with its image, or when it would if it had been listed.
func TestAbandonedConversion(t *testing.T) {
	for _, purged := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			w, _, source, hook := startHooked(t)
			rule := Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536, Publish: PublishV2}
			other := rule
			other.SpanSize *= 2
			var once sync.Once
			hook(func(row storage.BlobRow) {
				if row.Of == source {
					once.Do(func() { w.x.SetRules([]Rule{other}) })
				}
			})
			w.x.SetRules([]Rule{rule})
			w.settle()
			row, ok := w.conversion(source)
			if !ok {
				t.Fatal("it was not converted")
			}
			made := func() (n int) {
				for _, b := range w.left() {
					if b.Kind == storage.KindIndex {
						n++
					}
				}
				return n
			}
			if made() <= len(row.Made) {
				t.Fatal("no conversion was abandoned")
			}
			if !purged {
				time.Sleep(25 * time.Hour)
				if n := made(); n != len(row.Made) {
					t.Errorf("%d manifests are here, want the %d of the conversion", n, len(row.Made))
				}
				for _, m := range row.Made {
					_ = w.read(m.Digest)
				}
				return
			}
			_, err := w.store.PurgeImage(t.Context(), storage.PurgeOptions{Repo: redis, Root: source})
			w.check("purge", err)
			w.settle()
			for _, b := range w.left() {
				t.Errorf("left: %+v", b)
			}
		})
	}
}
