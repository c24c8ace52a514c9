package indexer

import (
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// push begins to push a blob; end feeds the rest of it, as the proxy does.
func (w *world) push() (s *stream, is func(digest.Digest)) {
	w.t.Helper()
	s = newStream()
	rc, err := s.open()
	w.check("open", err)
	return s, w.x.Push(redis, rc)
}

// TestPushIsIndexedBeforeItsManifest has the zTOC there when the manifest comes,
// without the layer being read again: nor is it in the store.
func TestPushIsIndexedBeforeItsManifest(t *testing.T) {
	for _, plain := range []bool{false, true} {
		layer, mediaType := newLayer(t, 1), gzipLayer
		if plain {
			layer, mediaType = newTar(t, 1, 300<<10), "application/vnd.oci.image.layer.v1.tar"
		}
		inBubble(t, func(t *testing.T) {
			w := start(t, t.TempDir(), Options{Rules: everything}, nil)
			img := typedImage(t, "img", []string{mediaType}, layer)
			s, is := w.push()
			s.feed(layer[:1000], nil)
			w.settle()
			is(digest.FromBytes(layer))
			s.feed(layer[1000:], io.EOF)
			w.settle()
			w.manifest(redis, img)
			w.wantIndex(img, layer)
			if jobs := w.jobs(); len(jobs) > 0 {
				t.Errorf("jobs %+v", jobs)
			}
		})
	}
}

// TestPushOvertakenByItsManifest has the manifest come while the builder is
// behind: no job is made of it.
func TestPushOvertakenByItsManifest(t *testing.T) {
	layer := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img := newImage(t, "img", layer)
		s, is := w.push()
		s.feed(layer[:1000], nil)
		is(digest.FromBytes(layer))
		w.keep(layer)
		w.manifest(redis, img)
		w.settle()
		w.wantNoIndex(img)
		if jobs := w.jobs(); len(jobs) > 0 {
			t.Errorf("jobs %+v", jobs)
		}
		s.feed(layer[1000:], io.EOF)
		w.settle()
		w.wantIndex(img, layer)
	})
}

// TestPushEnds has pushes that come to nothing: where the layer is whole all the
// same, a job indexes it.
func TestPushEnds(t *testing.T) {
	layer := newLayer(t, 1)
	d := digest.FromBytes(layer)
	for name, push := range map[string]func(s *stream, is func(digest.Digest)){
		"given up": func(s *stream, is func(digest.Digest)) { s.feed(layer[:5000], errors.New("gone")) },
		"given up, known": func(s *stream, is func(digest.Digest)) {
			is(d)
			s.feed(layer[:5000], errors.New("gone"))
		},
		"no layer": func(s *stream, is func(digest.Digest)) { s.feed(make([]byte, 5000), nil); is(d); s.feed(nil, io.EOF) },
		"short":    func(s *stream, is func(digest.Digest)) { s.feed(layer[:10], nil); is(d); s.feed(nil, io.EOF) },
		"malformed": func(s *stream, is func(digest.Digest)) {
			s.feed(append(layer[:5000:5000], make([]byte, 5000)...), nil)
			is(d)
			s.feed(nil, io.EOF)
		},
		"of another digest": func(s *stream, is func(digest.Digest)) { is(digest.FromString("x")); s.feed(layer, io.EOF) },
		"never known":       func(s *stream, _ func(digest.Digest)) { s.feed(layer, io.EOF) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := start(t, t.TempDir(), Options{Rules: everything}, nil)
				img := newImage(t, "img", layer)
				s, is := w.push()
				push(s, is)
				w.settle()
				if !s.closed {
					t.Error("the stream is not closed")
				}
				w.view(func(tx storage.Tx) error {
					return tx.AllLayers(func(row storage.LayerRow) error { t.Errorf("row %+v", row); return nil })
				})
				w.keep(layer)
				w.manifest(redis, img)
				w.settle()
				w.wantIndex(img, layer)
			})
		})
	}
}

// TestPushOfManyAtOnce builds what several push once.
func TestPushOfManyAtOnce(t *testing.T) {
	layer := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, MaxTaps: 4}, nil)
		img := newImage(t, "img", layer)
		for range 8 {
			s, is := w.push()
			is(digest.FromBytes(layer))
			s.feed(layer, io.EOF)
		}
		w.settle()
		w.manifest(redis, img)
		w.wantIndex(img, layer)
	})
}

func TestPushSize(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want int64
	}{
		{Options{}, -1},
		{Options{Rules: everything, Disabled: true}, -1},
		{Options{Rules: everything}, sniffed},
		{Options{Rules: []Rule{{Repositories: []string{"ghcr.io/**"}}}}, -1},
		{Options{Rules: []Rule{{Repositories: []string{"**"}, MinLayerSize: 1 << 20}}}, 1 << 20},
	} {
		if got := New(c.o).PushSize(redis); got != c.want {
			t.Errorf("PushSize with %+v: %d, want %d", c.o, got, c.want)
		}
	}
}
