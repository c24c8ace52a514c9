package storage_test

import (
	"path/filepath"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestCollectWhileAccessIsFiled has a client ask for a blob, and garbage be
// collected just when that is about to be filed.
func TestCollectWhileAccessIsFiled(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	h := &hooks{Meta: db}
	r := newRegistry(t, storage.Options{Meta: h})
	d := r.blob(gcApp, "layer")
	r.pass(100 * grace)
	row, err := r.Stat(t.Context(), d)
	r.must(err)
	r.Used(row)
	collect := func() {
		if _, err := r.collector().Collect(t.Context(), false, nil); err != nil {
			t.Error(err)
		}
	}
	h.before.Store(&collect)
	r.must(r.Flush(t.Context()))
	r.check(gcApp, true, d)
	collect() // by what is filed
	r.check(gcApp, true, d)
}
