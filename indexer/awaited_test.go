package indexer

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestAwaitedThoughBusy: what a client is held for is built though others have much
// to do, and though the only worker is at something else; the rest of the queue waits.
func TestAwaitedThoughBusy(t *testing.T) {
	a, b, c := newLayer(t, 1), newLayer(t, 2), newLayer(t, 3)
	begun := newTar(t, 4, 5<<20)
	held, other := newImage(t, "held", a, b), newImage(t, "other", c)
	first := typedImage(t, "first", []string{v1.MediaTypeImageLayer}, begun)
	inBubble(t, func(t *testing.T) {
		var busy atomic.Bool
		w := start(t, t.TempDir(), Options{Rules: everything, Busy: busy.Load}, nil)
		build := w.x.newBuilder
		w.x.newBuilder = func(spanSize int64, c compression, layerSize int64) (builder, error) {
			b, err := build(spanSize, c, layerSize)
			return slowBuilder{b, 20 * time.Millisecond}, err
		}
		w.manifest(redis, first)
		w.whole(begun)
		time.Sleep(50 * time.Millisecond)
		busy.Store(true)
		for _, img := range []*image{other, held} {
			w.manifest(redis, img)
		}
		for _, l := range [][]byte{c, a, b} {
			w.whole(l)
		}
		time.Sleep(time.Minute)
		if got := len(w.jobs()); got != 4 {
			t.Fatalf("%d jobs left while clients are busy, want all 4", got)
		}
		if in, ok, err := w.x.Coming(t.Context(), redis, held.digest); !ok || err != nil || in > time.Second {
			t.Fatalf("coming in %s: %t, %v", in, ok, err)
		}
		time.Sleep(2 * time.Second)
		w.wantIndex(held, a, b)
		time.Sleep(time.Minute)
		w.wantNoIndex(other)
		w.wantNoIndex(first)
		// What was begun goes on, too, when somebody waits for it.
		if in, ok, err := w.x.Coming(t.Context(), redis, first.digest); !ok || err != nil || in > time.Second {
			t.Fatalf("coming in %s: %t, %v", in, ok, err)
		}
		time.Sleep(2500 * time.Millisecond)
		w.wantIndex(first, begun)
		w.wantNoIndex(other)
		busy.Store(false)
		time.Sleep(2 * time.Second)
		w.wantIndex(other, c)
	})
}

// TestAwaitedInTime: who would be held for too long is told so at once, counting what
// others wait for, and nothing is begun for that.
func TestAwaitedInTime(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	one, two := newImage(t, "one", a), newImage(t, "two", b)
	each := seconds(float64(len(a)) / buildRate)
	inBubble(t, func(t *testing.T) {
		o := Options{Rules: everything, Busy: func() bool { return true }, WaitMax: each + each/2}
		w := start(t, t.TempDir(), o, nil)
		w.x.newBuilder = func(int64, compression, int64) (builder, error) {
			<-t.Context().Done() // one is being built, and that does not end
			return nil, t.Context().Err()
		}
		for _, img := range []*image{one, two} {
			w.manifest(redis, img)
		}
		w.whole(a)
		w.whole(b)
		w.settle()
		for _, tc := range []struct {
			img    *image
			within bool
		}{{one, true}, {two, false}, {one, true}} {
			in, ok, err := w.x.Coming(t.Context(), redis, tc.img.digest)
			if !ok || err != nil || (in <= o.WaitMax) != tc.within {
				t.Errorf("coming in %s of %s: %t, %v; want in time: %t", in, o.WaitMax, ok, err, tc.within)
			}
			w.settle()
		}
		if k := (key{digest.FromBytes(b), everything[0].SpanSize}); w.x.isAwaited(k) {
			t.Error("nobody is held for the second layer, and it counts as waited for")
		}
	})
}
