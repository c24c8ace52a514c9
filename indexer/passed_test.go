package indexer

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestPassed: a wanted layer that went by and for which there was no room is fetched
// once more, from where it came, and indexed; also where somebody was at it who
// fails. What is wanted by nobody is not.
func TestPassed(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	mirror := oci.Repo{Upstream: "mirror", Name: redis.Name}
	inBubble(t, func(t *testing.T) {
		f := &flow{tries: []io.Reader{bytes.NewReader(a), bytes.NewReader(b)}}
		rules := append([]Rule{{Repositories: []string{"hub/left/out"}, MinLayerSize: 1 << 40}}, everything...)
		w := start(t, t.TempDir(), Options{Rules: rules, Fetch: f}, nil)
		img, other := newImage(t, "img", a), newImage(t, "other", b)
		left := newImage(t, "left", newLayer(t, 3))
		w.manifest(redis, img)
		w.manifest(mirror, img)
		w.manifest(oci.Repo{Upstream: "hub", Name: "left/out"}, left)

		w.x.Passed(mirror, digest.FromBytes(a))
		w.x.Passed(mirror, left.manifest.Layers[0].Digest)
		w.settle()
		w.wantIndex(img, a)
		w.x.Passed(mirror, digest.FromBytes(a)) // as its fetch does
		w.settle()
		if jobs := w.jobs(); len(jobs) > 0 || f.opened() != 1 {
			t.Errorf("jobs left: %+v; opened %d times, want once", jobs, f.opened())
		}

		w.manifest(redis, other)
		r, pw := io.Pipe()
		w.x.Tap(digest.FromBytes(b), int64(len(b)), func() (io.ReadCloser, error) { return r, nil })
		_, err := pw.Write(b[:100])
		w.check("write", err)
		w.x.Passed(redis, digest.FromBytes(b))
		w.settle()
		if jobs := w.jobs(); len(jobs) != 1 || !jobs[0].Fetch || jobs[0].Layer.Repo != redis || f.opened() != 1 {
			t.Errorf("beside a tap: jobs %+v, opened %d times", jobs, f.opened())
		}
		w.check("break off", pw.CloseWithError(storage.ErrFull))
		w.settle()
		w.wantIndex(other, b)
	})
}

// TestPassedWithoutRoomForItsZTOC: what is fetched for its index alone, and in vain
// since not even that has room, is not fetched again and again.
func TestPassedWithoutRoomForItsZTOC(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		f := &flow{}
		for range maxAttempts {
			f.tries = append(f.tries, bytes.NewReader(a))
		}
		w := start(t, t.TempDir(), Options{Rules: everything, Fetch: f}, nil)
		w.x.newBuilder = func(int64, compression, int64) (builder, error) { return nil, storage.ErrFull }
		w.manifest(redis, newImage(t, "img", a))
		w.x.Passed(redis, digest.FromBytes(a))
		pause(t.Context(), 20*time.Minute)
		w.settle()
		if jobs := w.jobs(); len(jobs) != 1 || jobs[0].Failed || f.opened() != 1 {
			t.Errorf("after 20 minutes: %+v, fetched %d times", jobs, f.opened())
		}
		pause(t.Context(), 24*time.Hour)
		w.settle()
		if jobs := w.jobs(); len(jobs) != 1 || !jobs[0].Failed || f.opened() != 1+maxAttempts-fullAttempts {
			t.Errorf("in the end: %+v, fetched %d times", jobs, f.opened())
		}
	})
}

// TestPassedIsKept: the job is a row, so that a layer that has passed is indexed after a
// restart, too.
func TestPassedIsKept(t *testing.T) {
	a := newLayer(t, 1)
	dir := t.TempDir()
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		f := &flow{tries: []io.Reader{failing{errors.New("it is away")}, bytes.NewReader(a)}}
		w := start(t, dir, Options{Rules: everything, Fetch: f}, nil)
		w.manifest(redis, img)
		w.x.Passed(redis, digest.FromBytes(a))
		w.settle()
		w.stop()
		w = start(t, dir, Options{Rules: everything, Fetch: f}, nil)
		pause(t.Context(), backoff(1))
		w.settle()
		w.wantIndex(img, a)
	})
}
