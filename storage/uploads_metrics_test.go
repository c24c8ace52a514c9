package storage_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
)

// TestOpenUploadsAreSeen shows uploads that are open, and in a dry run of the collector
// those that would be ended.
func TestOpenUploadsAreSeen(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRegistry(t, storage.Options{Registerer: reg})
	want := func(uploads, bytes float64) {
		t.Helper()
		families, err := reg.Gather()
		r.must(err)
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		if n, b := got["sociable_storage_open_uploads"], got["sociable_storage_open_upload_bytes"]; n != uploads || b != bytes {
			t.Errorf("%v uploads of %v bytes, want %v of %v", n, b, uploads, bytes)
		}
	}
	want(0, 0)
	u, err := r.NewUploadBy(t.Context(), "", 0, gcApp, digest.SHA256)
	r.must(err)
	_, err = u.Write(t.Context(), []byte("some bytes"))
	r.must(err)
	r.must(u.Checkpoint(t.Context()))
	u.Release()
	want(1, 10)
	c := storage.NewCollector(storage.CollectOptions{Store: r.Store, Uploads: time.Hour})
	r.pass(2 * time.Hour)
	for _, dry := range []bool{true, false} {
		var seen []storage.Collected
		_, err := c.Collect(t.Context(), dry, func(x storage.Collected) { seen = append(seen, x) })
		r.must(err)
		if len(seen) != 1 || seen[0].Upload != u.ID() || seen[0].Bytes != 10 || seen[0].Reason != "given up: its client has not gone on with it since 2026-01-01T00:00:00Z" {
			t.Errorf("dry %v: %+v", dry, seen)
		}
	}
	want(0, 0)
}
