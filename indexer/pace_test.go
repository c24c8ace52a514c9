package indexer

import (
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestPace: a build is near its end when it seems to take no longer than nearEnd for
// the rest, and not before that can be told.
func TestPace(t *testing.T) {
	const piece, takes, pieces = 1 << 20, nearEnd / 4, 20
	for name, c := range map[string]struct {
		size  int64         // that Listed tells, behind the first piece
		waits time.Duration // for each piece to come
		slow  int           // each piece behind so many takes four times as long; 0: none
		want  int           // pieces that were built when it is near; -1: never
	}{
		"built at once":         {size: pieces * piece, want: pieces - 4},
		"a slow client":         {size: pieces * piece, waits: time.Hour, want: pieces - 4},
		"slower lately":         {size: pieces * piece, slow: 8, want: pieces - 1},
		"nobody asks":           {size: 0, want: -1},
		"so small that it ends": {size: 3 * piece, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			p, now, got := newPace(), time.Now(), -1
			for n := range pieces + 1 {
				p.waits(now)
				if n == 1 {
					p.ends(c.size)
				}
				select {
				case <-p.near:
					if got < 0 {
						got = n
					}
				default:
				}
				now = now.Add(c.waits)
				p.works(now, piece)
				now = now.Add(takes)
				if c.slow > 0 && n >= c.slow {
					now = now.Add(3 * takes)
				}
			}
			if got != c.want {
				t.Errorf("near its end behind piece %d of %d, want %d", got, pieces, c.want)
			}
		})
	}
}

// slowBuilder takes that long for each write.
type slowBuilder struct {
	builder
	takes time.Duration
}

func (b slowBuilder) Write(p []byte) (int, error) {
	time.Sleep(b.takes) // of the bubble
	return b.builder.Write(p)
}

// TestListedSoon: who waits for an index that is about to be listed is answered
// before it is, and finds it 200 ms later.
func TestListedSoon(t *testing.T) {
	const takes, within = 20 * time.Millisecond, 200 * time.Millisecond
	layer := newTar(t, 1, 5<<20)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, PushWait: time.Hour}, nil)
		build := w.x.newBuilder
		w.x.newBuilder = func(spanSize int64, c compression, layerSize int64) (builder, error) {
			b, err := build(spanSize, c, layerSize)
			return slowBuilder{b, takes}, err
		}
		img := typedImage(t, "img", []string{"application/vnd.oci.image.layer.v1.tar"}, layer)
		s, is := w.push()
		is(digest.FromBytes(layer))
		s.feed(layer, io.EOF)
		w.manifest(redis, img)
		begun := time.Now()
		w.x.Listed(t.Context(), redis, img.digest)
		whole := time.Duration(len(layer)/(256<<10)+2) * takes // its first bytes and its last ones come by themselves
		if took := time.Since(begun); took < nearEnd || took > whole-nearEnd+takes {
			t.Errorf("waited %v of %v", took, whole)
		}
		w.wantNoIndex(img)
		time.Sleep(within)
		w.settle()
		w.wantIndex(img, layer)
	})
}
