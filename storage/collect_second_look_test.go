package storage_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestCollectLooksAgain has something be needed again between the moment that it
// is found to be garbage and the transaction that would delete its row.
func TestCollectLooksAgain(t *testing.T) {
	for name, c := range map[string]struct {
		orphan bool // no repository has the blob at first
		then   func(r *registry, d digest.Digest)
	}{
		"a manifest names it": {false, func(r *registry, d digest.Digest) {
			_, err := r.pushManifest(gcApp, "new", "v1", "", []digest.Digest{d}, nil)
			r.must(err)
		}},
		"a repository has it": {true, func(r *registry, d digest.Digest) {
			r.must(r.Update(r.t.Context(), func(tx storage.Tx) error {
				return tx.PutContent(storage.ContentRow{Repo: gcApp, Digest: d, Size: 4, Pushed: r.clock()})
			}))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := bolt.Open(t.TempDir()+"/meta.db", bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			h := &hooks{Meta: db}
			r := newRegistry(t, storage.Options{Meta: h})
			d := r.blob(gcApp, "blob")
			if c.orphan {
				r.must(r.Update(t.Context(), func(tx storage.Tx) error {
					row, err := tx.Content(gcApp, d)
					if err != nil {
						return err
					}
					return storage.DropContent(tx, row, r.clock())
				}))
			}
			r.pass(100 * time.Hour)
			then := func() { c.then(r, d) }
			h.before.Store(&then)
			_, err = r.collector().Collect(t.Context(), false, nil)
			r.must(err)
			if h.before.Load() != nil {
				t.Fatal("nothing was about to be deleted")
			}
			r.check(gcApp, true, d)
		})
	}
}
