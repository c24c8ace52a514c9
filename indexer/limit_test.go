package indexer

import (
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestLargeZTOC leaves out a layer whose zTOC is larger than itself, whichever
// way it comes.
func TestLargeZTOC(t *testing.T) {
	small := compress(t, newTar(t, 1, 20<<10), gzip.Header{}) // a checkpoint alone has 32 KiB
	plain := newTar(t, 2, 300<<10)
	types := []string{gzipLayer, "application/vnd.oci.image.layer.v1.tar"}
	opt := Options{Rules: everything, MaxZTOC: 30_000}
	skipped := func(t *testing.T, w *world) {
		t.Helper()
		row := w.layer(digest.FromBytes(small))
		if row.State != storage.LayerSkipped || !strings.HasPrefix(row.Reason, "malformed: as gzip, ") || !strings.Contains(row.Reason, "too large") {
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
	x := New(Options{MaxZTOC: 1000})
	for size, want := range map[int64]int64{-1: 1000, 0: 1000, 4000: 1000, 8000: 2000} {
		if got := x.maxZTOC(size); got != want {
			t.Errorf("layer of %d bytes: %d, want %d", size, got, want)
		}
	}
}
