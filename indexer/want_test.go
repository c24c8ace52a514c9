package indexer

import (
	"errors"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestWant: what an operator asked for is made of layers that are here and of
// those that come, holds against the rules, and outlives a restart.
func TestWant(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	img := newImage(t, "img", a, b)
	other := newImage(t, "other", a)
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	for _, rules := range [][]Rule{nil, everything} {
		inBubble(t, func(t *testing.T) {
			dir := t.TempDir()
			w := start(t, dir, Options{Rules: rules}, nil)
			w.manifest(redis, img)
			w.manifest(redis, other)
			w.whole(a)
			w.settle()
			how := storage.Asked{SpanSize: 128 << 10, MinLayerSize: 1000}
			w.check("want", w.x.Want(t.Context(), redis, row, how))
			w.settle()
			if len(rules) == 0 {
				w.wantNoIndex(img)
			}
			w.whole(b)
			w.settle()
			first := w.wantIndex(img, a, b)
			w.wantSpans(img, how.SpanSize)
			w.manifest(redis, img) // as every pull does
			w.settle()
			w.wantIndex(img, a, b)
			w.stop()

			w = start(t, dir, Options{Rules: rules}, nil)
			w.settle()
			if got := w.wantIndex(img, a, b); got.Digest != first.Digest {
				t.Errorf("after a restart the index is %s, before it was %s", got.Digest, first.Digest)
			}
			if len(rules) == 0 {
				w.wantNoIndex(other)
			}
		})
	}
}

// wantSpans checks the span size that an image's layers are wanted at.
func (w *world) wantSpans(img *image, spanSize int64) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		row, err := tx.Image(img.digest)
		for _, l := range row.Layers {
			if l.SpanSize != spanSize {
				w.t.Errorf("layer %s is wanted at %d, not %d", l.Descriptor.Digest, l.SpanSize, spanSize)
			}
		}
		return err
	})
}

// TestOnlyAsked: who does not know the rules leaves alone what they made.
func TestOnlyAsked(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	ruled, asked := newImage(t, "ruled", a), newImage(t, "asked", a, b)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		w := start(t, dir, Options{Rules: everything}, nil)
		w.manifest(redis, ruled)
		w.whole(a)
		w.keep(b)
		w.settle()
		was := w.wantIndex(ruled, a)
		w.stop()

		w = start(t, dir, Options{OnlyAsked: true}, nil)
		row := storage.ManifestRow{Digest: asked.digest, Size: int64(len(asked.body)), Manifest: asked.manifest}
		w.check("want", w.x.Want(t.Context(), redis, row, storage.Asked{SpanSize: everything[0].SpanSize}))
		w.settle()
		w.wantIndex(asked, a, b)
		if got := w.wantIndex(ruled, a); got.Digest != was.Digest {
			t.Errorf("index of the other image is %s, was %s", got.Digest, was.Digest)
		}
	})
}

func TestWantRefusals(t *testing.T) {
	img := newImage(t, "img", newLayer(t, 1))
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	soci := row
	soci.Manifest.Annotations = map[string]string{"com.amazon.soci.index-digest": img.digest.String()}
	fine := storage.Asked{SpanSize: 1}
	for _, tc := range []struct {
		name string
		o    Options
		row  storage.ManifestRow
		how  storage.Asked
		want error
	}{
		{"off", Options{Disabled: true}, row, fine, ErrDisabled},
		{"has one", Options{}, soci, fine, ErrNotIndexable},
		{"no span size", Options{}, row, storage.Asked{}, errors.ErrUnsupported},
		{"negative", Options{}, row, storage.Asked{SpanSize: 1, MinLayerSize: -1}, errors.ErrUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := New(tc.o).Want(t.Context(), redis, tc.row, tc.how); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
