package indexer

import (
	"testing"
)

// TestPushOfAbsentImage: a rule that changes leaves no failed push of an image that its
// upstream has no more; once it is there again, its index is pushed.
func TestPushOfAbsentImage(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := &deleter{origin: newOrigin(t)}
		up.manifests[img.digest] = img.body
		w := replica(t, up, 64<<10, img, a)
		up.remove(img.digest) // there, and nobody tells of it
		for _, spans := range []int64{128 << 10, 256 << 10} {
			puts := up.puts
			w.turn(spans, img, a)
			if up.puts != puts || len(w.tasks()) > 0 {
				t.Errorf("%d changes, tasks %q", up.puts-puts, w.tasks())
			}
		}
		up.manifests[img.digest] = img.body
		w.manifest(redis, img)
		w.settle()
		if want, got := w.wantIndex(img, a).Digest, up.listed(img.digest); len(got) != 1 || got[0] != want || len(w.tasks()) > 0 {
			t.Errorf("there again: listed %v, want %s; tasks %q", got, want, w.tasks())
		}
	})
}
