package storage_test

import (
	"errors"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestCollectTagged has what a tag means stay, also where its row calls it a blob:
// as a manifest's bytes that came again made of it before they no longer did.
func TestCollectTagged(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	again := r.image(gcApp, "again", "v1", "")
	r.blob(gcApp, "again") // the same bytes, as a blob
	called := r.image(gcApp, "called a blob", "v2", "")
	r.must(r.Update(t.Context(), func(tx storage.Tx) error {
		row, err := tx.Content(gcApp, called)
		row.Manifest = false
		return errors.Join(err, tx.DeleteContent(gcApp, called), tx.PutContent(row))
	}))
	r.pass(100 * grace)
	if list, _ := r.collect(r.collector()); len(list) > 0 {
		t.Errorf("collected: %+v", list)
	}
	r.check(gcApp, true, again, called)
}
