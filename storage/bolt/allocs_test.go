package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestLookUpAllocs: every blob that is served is looked up. Its key stays off the heap,
// though it is told of where the row can't be read.
func TestLookUpAllocs(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	d := digest.FromString("x")
	row := storage.BlobRow{Digest: d, Kind: storage.KindBlob}
	if err := db.Update(t.Context(), func(tx storage.Tx) error { return tx.PutBlob(row) }); err != nil {
		t.Fatal(err)
	}
	err := db.View(t.Context(), func(tx storage.Tx) (err error) {
		n := testing.AllocsPerRun(100, func() {
			if _, berr := tx.Blob(d); berr != nil {
				err = berr
			}
		})
		if n > 4 { // of bbolt, and of what the row holds
			t.Errorf("%v allocations, want 4 at most", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
