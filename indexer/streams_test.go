package indexer

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestListed has a client wait for an index that is being built from its uploads,
// and for nothing else.
func TestListed(t *testing.T) {
	layer, other := newLayer(t, 1), newLayer(t, 2)
	const wait = 10 * time.Second
	for name, c := range map[string]struct {
		none  bool                  // no PushWait
		other bool                  // the image has a second layer
		then  func(*world, *stream) // a second after the manifest came
		leave bool                  // so does the client
		took  time.Duration
		want  bool // the index
	}{
		"built":             {then: func(_ *world, s *stream) { s.feed(layer[1000:], io.EOF) }, took: time.Second, want: true},
		"too late":          {then: func(*world, *stream) {}, took: wait},
		"the client leaves": {then: func(*world, *stream) {}, leave: true, took: time.Second},
		"failed":            {then: func(_ *world, s *stream) { s.feed(nil, errors.New("gone")) }, took: time.Second},
		"not wanted":        {none: true, then: func(*world, *stream) {}, took: 0},
		"missing another":   {other: true, then: func(*world, *stream) {}, took: 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := Options{Rules: everything, PushWait: wait}
				if c.none {
					o.PushWait = 0
				}
				w := start(t, t.TempDir(), o, nil)
				img := newImage(t, "img", layer)
				if c.other {
					img = newImage(t, "img", layer, other)
				}
				s, is := w.push()
				s.feed(layer[:1000], nil)
				is(digest.FromBytes(layer))
				w.settle()
				w.manifest(redis, img)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var waits sync.WaitGroup
				var took time.Duration
				waits.Go(func() {
					begun := time.Now()
					w.x.Listed(ctx, redis, img.digest)
					took = time.Since(begun)
					if got := len(w.referrers(img.digest)) > 0; got != c.want {
						t.Errorf("listed %v, want %v", got, c.want)
					}
				})
				time.Sleep(time.Second) // of the bubble
				c.then(w, s)
				if c.leave {
					cancel()
				}
				waits.Wait()
				if took != c.took {
					t.Errorf("waited %v, want %v", took, c.took)
				}
				s.feed(nil, errors.New("over"))
				synctest.Wait()
			})
		})
	}
}

// TestListedOfNothing: where nothing is being built, nobody waits, nor for an image
// that is not known.
func TestListedOfNothing(t *testing.T) {
	layer := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, PushWait: time.Hour}, nil)
		begun := time.Now()
		w.x.Listed(t.Context(), redis, digest.FromString("x"))
		s, is := w.push()
		is(digest.FromBytes(layer))
		w.x.Listed(t.Context(), redis, digest.FromString("x"))
		s.feed(layer, io.EOF)
		w.settle()
		img := newImage(t, "img", layer)
		w.manifest(redis, img)
		w.x.Listed(t.Context(), redis, img.digest)
		if took := time.Since(begun); took != 0 {
			t.Errorf("waited %v", took)
		}
		w.wantIndex(img, layer)
	})
}

// TestListedAtTheEnd: who waits when the indexer stops is let go.
func TestListedAtTheEnd(t *testing.T) {
	layer := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, PushWait: time.Hour}, nil)
		img := newImage(t, "img", layer)
		s, is := w.push()
		s.feed(layer[:1000], nil)
		is(digest.FromBytes(layer))
		w.manifest(redis, img)
		begun := time.Now()
		var waits sync.WaitGroup
		waits.Go(func() { w.x.Listed(t.Context(), redis, img.digest) })
		w.settle()
		w.stop()
		waits.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("waited %v", took)
		}
	})
}
