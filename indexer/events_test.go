package indexer

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// told keeps what it is told of.
type told struct {
	mu   sync.Mutex
	list []oci.Event
}

func (x *told) File(tx storage.EventTx, e oci.Event) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, e)
	return tx.AddEvent("e", []byte(e.Kind))
}

// TestEvents: an index that is listed is told of once, and a layer that is left
// out, with the reason.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &told{}
		w := start(t, t.TempDir(), Options{Rules: everything, Events: to}, nil)
		good, bad := newLayer(t, 1), []byte("not gzip at all")
		const zstdLayer = "application/vnd.oci.image.layer.v1.tar+zstd"
		img := typedImage(t, "image", []string{gzipLayer, gzipLayer, zstdLayer}, good, bad, []byte("of a kind that nobody can index"))
		w.manifest(redis, img)
		w.keep(good)
		w.keep(bad)
		w.x.Whole(img.manifest.Layers[0].Digest)
		w.x.Whole(img.manifest.Layers[1].Digest)
		w.settle()
		w.manifest(redis, img) // again: nothing new
		w.settle()
		to.mu.Lock()
		defer to.mu.Unlock()
		kinds, reasons := map[oci.EventKind]int{}, map[string]digest.Digest{}
		for _, e := range to.list {
			kinds[e.Kind]++
			switch e.Kind {
			case oci.EventIndexed:
				if e.Target.Digest != img.digest || e.Repo != redis || len(e.References) != 1 || e.References[0].ArtifactType != oci.MediaTypeSOCIIndexV1 {
					t.Errorf("indexed: %+v", e)
				}
			case oci.EventSkipped:
				reasons[ReasonWord(e.Reason)] = e.Target.Digest
			}
		}
		if diff := cmp.Diff(map[oci.EventKind]int{oci.EventIndexed: 1, oci.EventSkipped: 2}, kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		want := map[string]digest.Digest{ReasonMalformed: img.manifest.Layers[1].Digest, ReasonZstd: img.manifest.Layers[2].Digest}
		if diff := cmp.Diff(want, reasons); diff != "" {
			t.Errorf("skipped (-want +got):\n%s", diff)
		}
		queued := 0
		w.view(func(tx storage.Tx) error {
			return errors.Join(tx.Events("e", 0, func(storage.EventRow) error { queued++; return nil }))
		})
		if queued != 3 {
			t.Errorf("%d events are filed, want 3", queued)
		}
	})
}
