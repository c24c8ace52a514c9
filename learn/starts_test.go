package learn

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// step is something that a client does, so many seconds after noon.
type step struct {
	at    int
	ready bool // it asks for the index
	mount bool // it mounts the layer
	span  int  // it reads this one
}

func TestStarts(t *testing.T) {
	for name, tc := range map[string]struct {
		steps []step
		until int
		want  [][]int // spans of each start, those that were not over left out
	}{
		"reads in the window":            {[]step{{ready: true}, {at: 1, span: 5}, {at: 2, span: 6}, {at: 2, span: 6}}, 60, [][]int{{5, 6}}},
		"not behind it":                  {[]step{{ready: true}, {at: 1, span: 5}, {at: 25, span: 7}, {at: 26, span: 8}}, 60, [][]int{{5, 7}}},
		"nor when the background reads":  {[]step{{ready: true}, {at: 20, span: 5}, {at: 28, span: 7}, {at: 30, span: 0}}, 60, [][]int{{5, 7}}},
		"the background alone":           {[]step{{ready: true}, {at: 31, span: 0}, {at: 32, span: 1}}, 90, nil},
		"it mounts later than it asked":  {[]step{{ready: true}, {at: 20, mount: true}, {at: 40, span: 3}}, 90, [][]int{{3}}},
		"without being ready":            {[]step{{at: 1, span: 5}}, 60, nil},
		"not over yet":                   {[]step{{ready: true}, {at: 1, span: 5}}, 25, nil},
		"asks again while it starts":     {[]step{{ready: true}, {at: 1, span: 5}, {at: 2, ready: true}, {at: 3, span: 6}}, 60, [][]int{{5, 6}}},
		"two starts":                     {[]step{{ready: true}, {at: 1, span: 5}, {at: 100, ready: true}, {at: 101, span: 6}}, 200, [][]int{{5}, {6}}},
		"nothing came of it, then again": {[]step{{ready: true}, {at: 100, ready: true}, {at: 101, span: 6}}, 200, [][]int{{6}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStarts(25 * time.Second)
			var got [][]int
			finish := func(at int) {
				for _, o := range s.finished(noon.Add(time.Duration(at) * time.Second)) {
					var spans []int
					for k := range o.reads {
						spans = append(spans, k.span)
					}
					slices.Sort(spans)
					got = append(got, spans)
				}
			}
			k := startKey{1, digest.FromString("image")}
			for _, x := range tc.steps {
				now := noon.Add(time.Duration(x.at) * time.Second)
				switch {
				case x.ready:
					finish(x.at)
					s.getReady(k, 7, []layerAt{{layerA, spanSize}}, false, now)
				case x.mount:
					s.mounted(1, layerA, now)
				default:
					s.read(2, layerA, now, func(int64) (int, int) { return 900, 900 }) // another client
					s.read(1, layerA, now, func(int64) (int, int) { return x.span, x.span })
				}
			}
			finish(tc.until)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestStartsAreBounded: what can't be watched is refused, and what is over makes
// room.
func TestStartsAreBounded(t *testing.T) {
	s := newStarts(25 * time.Second)
	layers := []layerAt{{layerA, spanSize}}
	for i := range maxStarts {
		if s.getReady(startKey{client(i), layerA}, 7, layers, false, noon) {
			t.Fatalf("start %d is refused", i)
		}
	}
	if !s.getReady(startKey{maxStarts, layerA}, 7, layers, false, noon) {
		t.Error("more than there is room for is taken")
	}
	s.finished(noon.Add(time.Minute))
	if len(s.by) != 0 || len(s.clients) != 0 {
		t.Errorf("%d starts of %d clients remain", len(s.by), len(s.clients))
	}
}
