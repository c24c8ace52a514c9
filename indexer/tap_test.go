package indexer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// stream is a blob that arrives as the test feeds it.
type stream struct {
	mu     sync.Mutex
	grown  *sync.Cond
	have   []byte
	end    error // after have
	closed bool
	opened int
}

func newStream() *stream {
	s := &stream{}
	s.grown = sync.NewCond(&s.mu)
	return s
}

func (s *stream) open() (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return &streamReader{s: s}, nil
}

func (s *stream) feed(p []byte, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have, s.end = append(s.have, p...), end
	s.grown.Broadcast()
}

type streamReader struct {
	s   *stream
	off int
}

func (r *streamReader) Read(p []byte) (int, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for r.off == len(r.s.have) && r.s.end == nil && !r.s.closed {
		r.s.grown.Wait()
	}
	if r.s.closed {
		return 0, io.ErrClosedPipe
	}
	if r.off == len(r.s.have) {
		return 0, r.s.end
	}
	n := copy(p, r.s.have[r.off:])
	r.off += n
	return n, nil
}

func (r *streamReader) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.closed = true
	r.s.grown.Broadcast()
	return nil
}

func TestTapFollowsTheStream(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img, s := newImage(t, "img", a), newStream()
		w.manifest(redis, img)
		w.x.Tap(digest.FromBytes(a), int64(len(a)), s.open)
		for i := range 10 {
			s.feed(a[i*len(a)/10:(i+1)*len(a)/10], nil)
			w.settle()
			w.wantNoIndex(img)
		}
		s.feed(nil, io.EOF)
		w.settle()
		w.wantIndex(img, a)
		if !s.closed {
			t.Error("the reader was not closed")
		}
	})
}

// TestTapBreaksOff: whatever ends a stream but io.EOF, nothing is decided, and
// the layer is indexed when it comes again or is whole in the store.
func TestTapBreaksOff(t *testing.T) {
	a := newLayer(t, 1)
	later := map[string]func(*world){
		"tap":   func(w *world) { w.tap(a) },
		"whole": func(w *world) { w.whole(a) },
	}
	tests := map[string]func() (io.ReadCloser, error){
		"mid-way": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(a[:len(a)/2]), failing{errFault})), nil
		},
		"at the end": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(a), failing{errFault})), nil
		},
		"at once":   func() (io.ReadCloser, error) { return nil, errFault },
		"corrupted": func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("junk" + string(a))), errFault },
		"corrupted, and found so": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("junk"), failing{errFault})), nil
		},
		"of another blob": func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(newLayer(t, 2))), nil
		},
	}
	for name, open := range tests {
		for then, again := range later {
			t.Run(name+", then "+then, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					w := start(t, t.TempDir(), Options{Rules: everything}, nil)
					img := newImage(t, "img", a)
					w.manifest(redis, img)
					w.x.Tap(digest.FromBytes(a), -1, open)
					w.settle()
					w.wantNoIndex(img)
					if row := w.layer(digest.FromBytes(a)); row.State != storage.LayerWanted || row.Reason != "" {
						t.Errorf("layer is %s, %q", row.State, row.Reason)
					}
					if got := value(t, w.x.m.builds.WithLabelValues(resultDropped)); got != 1 {
						t.Errorf("%v dropped, want 1", got)
					}
					again(w)
					w.settle()
					w.wantIndex(img, a)
				})
			})
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestTapBreaksOffBehindWhole: the store has the blob, but the tap that had it
// claimed fails after that: a job takes over.
func TestTapBreaksOffBehindWhole(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img, s := newImage(t, "img", a), newStream()
		w.manifest(redis, img)
		w.x.Tap(digest.FromBytes(a), int64(len(a)), s.open)
		s.feed(a[:1000], nil)
		w.settle()
		w.whole(a)
		w.settle()
		w.wantNoIndex(img)
		if jobs := w.jobs(); len(jobs) > 0 {
			t.Errorf("jobs %+v beside the tap", jobs)
		}
		s.feed(nil, errFault)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestMaxTaps: beyond the bound a stream is not even opened; the queue has it
// when it is whole.
func TestMaxTaps(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, MaxTaps: 1}, nil)
		img, sa, sb := newImage(t, "img", a, b), newStream(), newStream()
		w.manifest(redis, img)
		w.x.Tap(digest.FromBytes(a), int64(len(a)), sa.open)
		w.settle()
		w.x.Tap(digest.FromBytes(b), int64(len(b)), sb.open)
		w.settle()
		if sa.opened != 1 || sb.opened != 0 {
			t.Errorf("opened %d and %d times, want 1 and 0", sa.opened, sb.opened)
		}
		if got := value(t, w.x.m.tapsDropped); got != 1 {
			t.Errorf("%v taps dropped, want 1", got)
		}
		w.whole(b)
		sa.feed(a, io.EOF)
		w.settle()
		w.wantIndex(img, a, b)
	})
}

// TestTapOnlyWhatIsWanted: streams of other blobs, and second streams of the
// same layer, are not opened.
func TestTapOnlyWhatIsWanted(t *testing.T) {
	a, config := newLayer(t, 1), []byte("{}")
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		first, second, other := newStream(), newStream(), newStream()
		w.manifest(redis, newImage(t, "img", a))
		w.x.Tap(digest.FromBytes(config), 2, other.open)
		w.x.Tap(digest.FromBytes(a), -1, first.open)
		w.x.Tap(digest.FromBytes(a), -1, second.open)
		w.settle()
		first.feed(a, io.EOF)
		w.settle()
		w.x.Tap(digest.FromBytes(a), -1, second.open)
		w.settle()
		if first.opened != 1 || second.opened != 0 || other.opened != 0 {
			t.Errorf("opened %d, %d and %d times, want 1, 0, 0", first.opened, second.opened, other.opened)
		}
	})
}

// TestStopWhileATapWaits: Run ends though a stream stands still.
func TestStopWhileATapWaits(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		img, s := newImage(t, "img", a), newStream()
		w := start(t, dir, Options{Rules: everything}, nil)
		w.manifest(redis, img)
		w.x.Tap(digest.FromBytes(a), int64(len(a)), s.open)
		s.feed(a[:1000], nil)
		w.settle()
		w.stop()
		w.tap(a) // after the end: nothing may happen
		w.x.Whole(digest.FromBytes(a))

		w = start(t, dir, Options{Rules: everything}, nil)
		w.settle()
		w.tap(a)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestManyTapsBeforeRun: calls that nobody looks at yet do not pile up.
func TestManyTapsBeforeRun(t *testing.T) {
	x := New(Options{Rules: everything})
	s := newStream()
	for range 2 * maxPendingTaps {
		x.Tap(oci.EmptyDigest, 2, s.open)
	}
	if len(x.taps) != maxPendingTaps {
		t.Errorf("%d calls are kept, want %d", len(x.taps), maxPendingTaps)
	}
}

// TestRefused: layers that can't have a zTOC are left out with the reason, for
// good, and the rest of the image is indexed.
func TestRefused(t *testing.T) {
	good := newLayer(t, 1)
	plain := newTar(t, 2, 1000)
	cut := compress(t, newTar(t, 3, 10000), gzip.Header{})
	tests := map[string]struct {
		body   []byte
		reason []string
	}{
		"not gzip":            {plain, []string{"malformed: as gzip, deflate at offset "}},
		"cut":                 {cut[:len(cut)-100], []string{"malformed: as gzip, deflate at offset "}},
		"empty":               {[]byte{}, []string{"malformed: as gzip, deflate at offset 0"}},
		"not a tar":           {compress(t, bytes.Repeat([]byte("x"), 5000), gzip.Header{}), []string{"malformed: as gzip, tar-header at offset "}},
		"link without a file": {compress(t, badLink(t), gzip.Header{}), []string{"client-rejects: ", "hardlink"}},
	}
	for name, tt := range tests {
		for _, way := range []string{"tap", "whole"} {
			t.Run(name+", "+way, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					w := start(t, t.TempDir(), Options{Rules: everything}, nil)
					img := newImage(t, "img", tt.body, good)
					w.manifest(redis, img)
					w.tap(good)
					if way == "tap" {
						w.tap(tt.body)
					}
					w.whole(tt.body)
					w.settle()
					row := w.layer(digest.FromBytes(tt.body))
					if row.State != storage.LayerSkipped {
						t.Errorf("layer is %s", row.State)
					}
					for _, part := range tt.reason {
						if !strings.Contains(row.Reason, part) {
							t.Errorf("reason %q, want %q", row.Reason, part)
						}
					}
					w.wantIndex(img, good)
					if jobs := w.jobs(); len(jobs) > 0 {
						t.Errorf("jobs %+v", jobs)
					}
				})
			})
		}
	}
}

// TestRefusalOfAnUnverifiedStream says nothing about the layer.
func TestRefusalOfAnUnverifiedStream(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img, s := newImage(t, "img", a), newStream()
		w.manifest(redis, img)
		w.x.Tap(digest.FromBytes(a), int64(len(a)), s.open)
		s.feed(bytes.Repeat([]byte("junk"), 1<<18), nil)
		w.settle()
		s.feed(nil, errors.New("digest does not match"))
		w.settle()
		if row := w.layer(digest.FromBytes(a)); row.State != storage.LayerWanted || row.Reason != "" {
			t.Errorf("layer is %s, %q", row.State, row.Reason)
		}
		w.tap(a)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestConcurrentPulls: many clients pull many images that share layers, and
// say so in any order at once.
func TestConcurrentPulls(t *testing.T) {
	var layers [][]byte
	for i := range 6 {
		layers = append(layers, newLayer(t, uint64(i)))
	}
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, Workers: 3, MaxTaps: 2}, nil)
		var images []*image
		var wg sync.WaitGroup
		for i := range 12 {
			parts := [][]byte{layers[i%6], layers[(i*5+1)%6], layers[(i+2)%6]}
			img := newImage(t, fmt.Sprint("img", i), parts...)
			images = append(images, img)
			for repo := range 2 {
				wg.Go(func() { w.manifest(oci.Repo{Upstream: "quay.io", Name: fmt.Sprint("r", repo)}, img) })
			}
			for _, l := range parts {
				wg.Go(func() {
					w.tap(l)
					w.whole(l)
				})
			}
		}
		wg.Wait()
		w.settle()
		for i, img := range images {
			w.wantIndex(img, layers[i%6], layers[(i*5+1)%6], layers[(i+2)%6])
		}
		if jobs := w.jobs(); len(jobs) > 0 {
			t.Errorf("jobs left: %+v", jobs)
		}
		if got := value(t, w.x.m.queued); got != 0 {
			t.Errorf("%v jobs are counted, want 0", got)
		}
	})
}

// TestManifestOfALeavingClient: the client that asked for the manifest is gone.
func TestManifestOfALeavingClient(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img := newImage(t, "img", a)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := w.x.Manifest(ctx, redis, storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		w.manifest(redis, img)
		w.tap(a)
		w.settle()
		w.wantIndex(img, a)
	})
}
