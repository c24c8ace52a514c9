package bolt

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestDamageOfOne has one update of a group come across what makes bbolt panic, each
// place in the group in turn: it alone is told so, and the others are durable.
func TestDamageOfOne(t *testing.T) {
	const n = 3
	for bad := range n {
		db, err := Open(filepath.Join(t.TempDir(), "meta.db"), Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		var us []*update
		for i := range n {
			fn := func(tx storage.Tx) error {
				return tx.PutBlob(storage.BlobRow{Digest: digestOf(i), Kind: storage.KindBlob})
			}
			if i == bad {
				fn = func(x storage.Tx) error {
					put := x.PutBlob(storage.BlobRow{Digest: digestOf(i), Kind: storage.KindBlob})
					x.(tx).t.Bucket([]byte("none")).Get([]byte("x"))
					return put
				}
			}
			us = append(us, &update{fn: fn, done: make(chan error, 1)})
		}
		db.updates.queue = append(db.updates.queue, us...)
		db.updates.lead <- struct{}{}
		db.updates.commitNext()
		for i, u := range us {
			err := <-u.done
			if i != bad && err != nil {
				t.Errorf("%d is bad, update %d: %v", bad, i, err)
			}
			if i == bad && (!errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "a table is missing")) {
				t.Errorf("update %d: %v, want ErrCorrupt for a table that is missing", i, err)
			}
			err = db.View(t.Context(), func(tx storage.Tx) error { _, err := tx.Blob(digestOf(i)); return err })
			if errors.Is(err, storage.ErrNotFound) != (i == bad) {
				t.Errorf("%d is bad, row %d: %v", bad, i, err)
			}
		}
		if err := db.Update(t.Context(), func(storage.Tx) error { return nil }); err != nil {
			t.Errorf("the next update: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func digestOf(i int) digest.Digest { return digest.FromBytes([]byte{byte(i)}) }
