package storage_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
)

// TestCollectedIsCounted: what a collection reclaims is in the metrics, and what a
// dry run would is not.
func TestCollectedIsCounted(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	reg := prometheus.NewPedanticRegistry()
	c := storage.NewCollector(storage.CollectOptions{Store: r.Store, Hosted: []string{"local"}, Grace: grace, Registerer: reg})
	r.blob(gcApp, "five!")
	r.pass(2 * grace)
	want := func(removed, reclaimed string) {
		t.Helper()
		err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP sociable_storage_gc_reclaimed_bytes_total Bytes that were collected as garbage.
# TYPE sociable_storage_gc_reclaimed_bytes_total counter
sociable_storage_gc_reclaimed_bytes_total `+reclaimed+`
# HELP sociable_storage_gc_removed_total Tags, manifests, blobs, uploads and what was made here that were collected as garbage.
# TYPE sociable_storage_gc_removed_total counter
sociable_storage_gc_removed_total{what="blob"} `+removed+`
sociable_storage_gc_removed_total{what="made"} 0
sociable_storage_gc_removed_total{what="manifest"} 0
sociable_storage_gc_removed_total{what="orphan"} 0
sociable_storage_gc_removed_total{what="tag"} 0
sociable_storage_gc_removed_total{what="upload"} 0
`), "sociable_storage_gc_reclaimed_bytes_total", "sociable_storage_gc_removed_total")
		if err != nil {
			t.Error(err)
		}
	}
	for _, dry := range []bool{true, false} {
		want("0", "0")
		if _, err := c.Collect(t.Context(), dry, nil); err != nil {
			t.Fatal(err)
		}
	}
	want("1", "5")
}
