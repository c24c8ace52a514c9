package web

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestWhatALayerWaitsFor: of a layer that is wanted and not here it is said what it
// waits for, unless that is the next pull.
func TestWhatALayerWaitsFor(t *testing.T) {
	layer := digest.FromString("wanted")
	job := func(set func(*storage.JobRow)) func(storage.Tx) error {
		j := storage.JobRow{Layer: oci.Layer{Descriptor: v1.Descriptor{Digest: layer}}, SpanSize: 4096}
		set(&j)
		return func(tx storage.Tx) error { return tx.PutJob(j) }
	}
	other := func(tx storage.Tx) error {
		return tx.PutLayer(storage.LayerRow{Digest: layer, SpanSize: 8192, State: storage.LayerIndexed})
	}
	here := func(tx storage.Tx) error { return tx.PutBlob(storage.BlobRow{Digest: layer, Kind: storage.KindBlob}) }
	for name, tt := range map[string]struct {
		rows []func(storage.Tx) error
		want string
	}{
		"for a pull":           {nil, ""},
		"for its turn":         {[]func(storage.Tx) error{here, other, job(func(*storage.JobRow) {})}, ""},
		"for whoever wants it": {[]func(storage.Tx) error{other}, "evicted, and indexed in other spans"},
		"to be fetched":        {[]func(storage.Tx) error{other, job(func(j *storage.JobRow) { j.Fetch = true })}, "fetched when clients leave time"},
		"a job of no use":      {[]func(storage.Tx) error{other, job(func(*storage.JobRow) {})}, "evicted, and indexed in other spans"},
		"a job that failed":    {[]func(storage.Tx) error{job(func(j *storage.JobRow) { j.Fetch, j.Failed = true, true })}, "given up"},
	} {
		t.Run(name, func(t *testing.T) {
			_, store, want := filled(t)
			for _, put := range tt.rows {
				if err := store.Update(t.Context(), put); err != nil {
					t.Fatal(err)
				}
			}
			got, err := IndexOf(t.Context(), store, want.Manifest, nil)
			if err != nil {
				t.Fatal(err)
			}
			if reason := got.Layers[1].Reason; (reason == "") != (tt.want == "") || !strings.Contains(reason, tt.want) {
				t.Errorf("it waits for %q, want %q", reason, tt.want)
			}
		})
	}
}
