package indexer

import (
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestState follows an image from its manifest to its index.
func TestState(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	img := newImage(t, "img", a, b)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		state := func(want oci.IndexState) {
			t.Helper()
			got, err := w.x.State(t.Context(), img.digest)
			if err != nil || got != want {
				t.Errorf("%+v, %v, want %+v", got, err, want)
			}
		}
		state(oci.IndexState{Done: true}) // never seen
		w.manifest(redis, img)
		state(oci.IndexState{Layers: 2})
		w.whole(a)
		w.settle()
		state(oci.IndexState{Layers: 2, Through: 1})
		w.whole(b)
		w.settle()
		state(oci.IndexState{Done: true, Layers: 2, Through: 2})
	})
}
