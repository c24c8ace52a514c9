package storage_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestCollectImmutableSignature: an immutable tag stays, though what it is about
// was deleted.
func TestCollectImmutableSignature(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	m := r.image(gcApp, "signed", "1", "")
	tag := fallbackTag(m) + ".sig"
	sig := r.image(gcApp, "signature", tag, "")
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(gcApp, "1") }))
	r.remove(gcApp, m)
	r.pass(100 * time.Hour)
	c := storage.NewCollector(storage.CollectOptions{
		Store: r.Store, Hosted: []string{"local"}, Grace: grace,
		Immutable: func(_ oci.Repo, tag string) bool { return strings.HasSuffix(tag, ".sig") },
	})
	if _, err := c.Collect(t.Context(), false, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(r.tags(), tag) {
		t.Errorf("%s went", tag)
	}
	r.check(gcApp, true, sig)
}
