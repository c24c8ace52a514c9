package indexer

import (
	"compress/gzip"
	"io"
	"reflect"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
)

// TestLargeZTOC leaves out a layer whose zTOC is larger than itself, whichever
// way it comes.
func TestLargeZTOC(t *testing.T) {
	small := compress(t, newTar(t, 1, 20<<10), gzip.Header{}) // a checkpoint alone has 32 KiB
	plain := newTar(t, 2, 300<<10)
	types := []string{gzipLayer, "application/vnd.oci.image.layer.v1.tar"}
	opt := Options{Rules: everything, Limits: Limits{MaxZTOC: 30_000}}
	skipped := func(t *testing.T, w *world) {
		t.Helper()
		row := w.layer(digest.FromBytes(small))
		if row.State != storage.LayerSkipped || row.Reason != "too-large: as gzip, its zTOC is larger than the 29 KiB of index.max_ztoc, "+
			"and than a quarter of the layer: raise index.max_ztoc to have it indexed" {
			t.Errorf("layer is %s, %q", row.State, row.Reason)
		}
	}
	t.Run("pulled", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w := start(t, t.TempDir(), opt, nil)
			img := typedImage(t, "img", types, small, plain)
			w.manifest(redis, img)
			w.tap(small)
			w.tap(plain)
			w.settle()
			skipped(t, w)
			w.wantIndex(img, plain)
		})
	})
	t.Run("pushed", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w := start(t, t.TempDir(), opt, nil)
			img := typedImage(t, "img", types, small, plain)
			for _, layer := range [][]byte{small, plain} {
				s, is := w.push()
				is(digest.FromBytes(layer))
				s.feed(layer, io.EOF)
				w.settle()
			}
			w.keep(small)
			w.keep(plain)
			w.manifest(redis, img)
			w.settle()
			skipped(t, w)
			w.wantIndex(img, plain)
		})
	})
}

func TestMaxZTOC(t *testing.T) {
	l := Limits{MaxZTOC: 1000}
	for size, want := range map[int64]int64{-1: 1000, 0: 1000, 4000: 1000, 8000: 2000} {
		if got := l.zTOC(size); got != want {
			t.Errorf("layer of %d bytes: %d, want %d", size, got, want)
		}
	}
}

// TestWiderLimits: what was too large is tried again when more is allowed, by the
// next start or by an operator who asks, and not before.
func TestWiderLimits(t *testing.T) {
	small := compress(t, newTar(t, 1, 20<<10), gzip.Header{})
	plain := newTar(t, 2, 300<<10)
	img := typedImage(t, "img", []string{gzipLayer, "application/vnd.oci.image.layer.v1.tar"}, small, plain)
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		with := func(l Limits) *world { return start(t, dir, Options{Rules: everything, Limits: l}, nil) }
		w := with(Limits{MaxZTOC: 30_000})
		w.manifest(redis, img)
		w.whole(small)
		w.whole(plain)
		w.settle()
		w.wantIndex(img, plain)
		before := w.layer(digest.FromBytes(small))
		w.stop()

		w = with(Limits{MaxZTOC: 30_000})
		w.manifest(redis, img)
		w.check("want", w.x.Want(t.Context(), redis, row, storage.Asked{SpanSize: everything[0].SpanSize, MinLayerSize: new(int64(0))}))
		w.settle()
		if got := w.layer(digest.FromBytes(small)); !reflect.DeepEqual(got, before) {
			t.Errorf("under the same limits it is %+v", got)
		}
		w.stop()

		w = with(Limits{})
		w.settle()
		w.wantIndex(img, small, plain)
		w.stop()
	})
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		w := start(t, dir, Options{Rules: everything, Limits: Limits{MaxUncompressed: 200 << 10, MaxFiles: 1000}}, nil)
		w.manifest(redis, img)
		w.whole(small)
		w.whole(plain)
		w.settle()
		const want = "too-large: as uncompressed, decompressed it has more than the 200 KiB of index.max_uncompressed: raise that to have it indexed"
		if got := w.layer(digest.FromBytes(plain)); got.Reason != want {
			t.Errorf("it is %s: %q, want %q", got.State, got.Reason, want)
		}
		w.stop()

		w = start(t, dir, Options{OnlyAsked: true}, nil)
		w.check("want", w.x.Want(t.Context(), redis, row, storage.Asked{SpanSize: everything[0].SpanSize, MinLayerSize: new(int64(0))}))
		w.settle()
		w.wantIndex(img, small, plain)
		w.stop()
	})
}

// TestSizeOfManifest: what a manifest says of a layer's size decides nothing.
func TestSizeOfManifest(t *testing.T) {
	layer := compress(t, newTar(t, 1, 20<<10), gzip.Header{})
	plain := newTar(t, 3, 300<<10)
	for name, tc := range map[string]struct {
		layer []byte
		typ   string
		says  int64
		limit int64
		want  storage.LayerState
	}{
		"more than it has": {layer, gzipLayer, 1 << 40, 30_000, storage.LayerSkipped},
		"less than it has": {plain, v1.MediaTypeImageLayer, 1, 100, storage.LayerIndexed},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := start(t, t.TempDir(), Options{Rules: everything, Limits: Limits{MaxZTOC: tc.limit}}, nil)
				img := typedImage(t, "img", []string{tc.typ}, tc.layer)
				img.manifest.Layers[0].Size = tc.says
				w.manifest(redis, img)
				w.keep(tc.layer)
				w.tap(tc.layer)
				w.settle()
				if got := w.layer(digest.FromBytes(tc.layer)); got.State != tc.want {
					t.Errorf("it is %s, %q", got.State, got.Reason)
				}
				w.stop()
			})
			inBubble(t, func(t *testing.T) {
				w := start(t, t.TempDir(), Options{Rules: everything, Limits: Limits{MaxZTOC: tc.limit}}, nil)
				img := typedImage(t, "img", []string{tc.typ}, tc.layer)
				img.manifest.Layers[0].Size = tc.says
				w.manifest(redis, img)
				w.tap(tc.layer)
				w.settle()
				w.whole(tc.layer)
				w.settle()
				if got := w.layer(digest.FromBytes(tc.layer)); got.State != tc.want {
					t.Errorf("of a stream it is %s, %q", got.State, got.Reason)
				}
				w.stop()
			})
		})
	}
}

func TestLimitsWider(t *testing.T) {
	l := Limits{MaxUncompressed: 10, MaxFiles: 10, MaxZTOC: 10}
	for now, want := range map[Limits]bool{
		l:           false,
		{9, 10, 10}: false, {10, 10, 9}: false, {11, 1, 1}: true, {0, 1, 1}: true, {1, 11, 1}: true, {1, 1, 11}: true,
	} {
		if got := now.wider(l); got != want {
			t.Errorf("%v after %v: %v", now, l, got)
		}
	}
	if (Limits{MaxUncompressed: 1}).wider(Limits{}) {
		t.Error("a bound is wider than none")
	}
}
