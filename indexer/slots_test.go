package indexer

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestIdlePushGivesWay: the build of an upload that stands still gives its slot to
// another build, the one that does so for longest first; what it was about is
// indexed once it is whole.
func TestIdlePushGivesWay(t *testing.T) {
	first, second, third := newLayer(t, 1), newLayer(t, 2), newLayer(t, 3)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, MaxTaps: 2}, nil)
		a, isA := w.push()
		b, _ := w.push()
		a.feed(first[:1000], nil)
		b.feed(second[:1000], nil)
		w.settle()
		time.Sleep(tapIdle / 2) // of the bubble
		a.feed(first[1000:2000], nil)
		w.settle()
		time.Sleep(tapIdle / 2)
		c, isC := w.push()
		w.settle()
		if a.closed || !b.closed {
			t.Errorf("closed: the first %v, the idler second %v", a.closed, b.closed)
		}
		d, _ := w.push() // none is idle for as long
		w.settle()
		if a.closed || !d.closed {
			t.Errorf("closed: the first %v, one too many %v", a.closed, d.closed)
		}
		isC(digest.FromBytes(third))
		c.feed(third, io.EOF)
		isA(digest.FromBytes(first))
		a.feed(first[2000:], io.EOF)
		w.settle()
		for i, layer := range [][]byte{first, third} {
			img := newImage(t, string(rune('a'+i)), layer)
			w.manifest(redis, img)
			w.wantIndex(img, layer)
		}
		img := newImage(t, "c", second)
		w.keep(second)
		w.manifest(redis, img)
		w.settle()
		w.wantIndex(img, second)
	})
}

// TestIdlePushGivesWayToFetch: also to the build of a layer that is being pulled.
func TestIdlePushGivesWayToFetch(t *testing.T) {
	layer := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, MaxTaps: 1}, nil)
		img := newImage(t, "img", layer)
		w.manifest(redis, img)
		idle, _ := w.push()
		w.settle()
		time.Sleep(2 * tapIdle)
		s := newStream()
		w.x.Tap(digest.FromBytes(layer), int64(len(layer)), s.open)
		w.settle()
		if !idle.closed {
			t.Error("the idle one is not closed")
		}
		s.feed(layer, io.EOF)
		w.settle()
		synctest.Wait()
		w.wantIndex(img, layer)
	})
}
