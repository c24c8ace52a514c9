package indexer

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func TestBackoff(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		1: 5 * time.Second, 2: 10 * time.Second, 5: 80 * time.Second, 10: 2560 * time.Second, 11: time.Hour, 1000: time.Hour,
	} {
		if got := backoff(attempts); got != want {
			t.Errorf("after %d attempts %v, want %v", attempts, got, want)
		}
	}
}

// TestBackOffAndGoOn: what is no fault of the layer is tried again, later each
// time, also over a restart.
func TestBackOffAndGoOn(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		img := newImage(t, "img", a)
		full := errors.New("no space left on device")
		var attempts atomic.Int32
		failing := func(x *Indexer) {
			build := x.newBuilder
			x.newBuilder = func(spanSize int64, c compression, layerSize int64) (builder, error) {
				if attempts.Add(1) <= 4 {
					return nil, full
				}
				return build(spanSize, c, layerSize)
			}
		}
		w := start(t, dir, Options{Rules: everything}, nil)
		failing(w.x)
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		wantAttempts := func(n int) {
			t.Helper()
			jobs := w.jobs()
			if len(jobs) != 1 || jobs[0].Attempts != n || !strings.Contains(jobs[0].LastError, full.Error()) {
				t.Errorf("jobs %+v, want one after %d attempts", jobs, n)
			}
			if got := attempts.Load(); got != int32(n) {
				t.Errorf("%d attempts, want %d", got, n)
			}
		}
		wantAttempts(1)
		time.Sleep(5*time.Second - 1)
		w.settle()
		wantAttempts(1)
		time.Sleep(time.Nanosecond)
		w.settle()
		wantAttempts(2)
		time.Sleep(10 * time.Second)
		w.settle()
		wantAttempts(3)
		w.stop()

		w = start(t, dir, Options{Rules: everything}, nil)
		failing(w.x)
		w.settle()
		wantAttempts(3)
		if got := value(t, w.x.m.queued); got != 1 {
			t.Errorf("%v jobs are counted after the restart, want 1", got)
		}
		age := queueAge{store: w.x.store, now: time.Now}
		if got := age.seconds(); got != 15 {
			t.Errorf("the oldest job has waited %v s, want 15", got)
		}
		time.Sleep(20 * time.Second)
		w.settle()
		wantAttempts(4)
		w.whole(a) // is no reason to hurry
		w.settle()
		wantAttempts(4)
		time.Sleep(40 * time.Second)
		w.settle()
		w.wantIndex(img, a)
		if jobs := w.jobs(); len(jobs) > 0 {
			t.Errorf("jobs left: %+v", jobs)
		}
		if got := age.seconds(); got != 0 {
			t.Errorf("with nothing to do the oldest job has waited %v s", got)
		}
	})
}

// TestOneWaitsOthersGoOn: a job in its backoff does not hold up younger ones.
func TestOneWaitsOthersGoOn(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		build := w.x.newBuilder
		var first atomic.Bool
		w.x.newBuilder = func(spanSize int64, c compression, layerSize int64) (builder, error) {
			if !first.Swap(true) {
				return nil, errFault
			}
			return build(spanSize, c, layerSize)
		}
		imgA, imgB := newImage(t, "a", a), newImage(t, "b", b)
		w.manifest(redis, imgA)
		w.manifest(redis, imgB)
		w.whole(a)
		w.settle()
		w.whole(b)
		w.settle()
		w.wantNoIndex(imgA)
		w.wantIndex(imgB, b)
		time.Sleep(backoffMin)
		w.settle()
		w.wantIndex(imgA, a)
	})
}

// TestEvictedBeforeItsTurn: the job goes, the layer stays wanted.
func TestEvictedBeforeItsTurn(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img := newImage(t, "img", a)
		w.manifest(redis, img)
		w.settle()
		err := w.store.Update(t.Context(), func(tx storage.Tx) error {
			return tx.PutJob(storage.JobRow{Layer: oci.Layer{Descriptor: img.manifest.Layers[0]}, SpanSize: everything[0].SpanSize})
		})
		w.check("put job", err)
		w.x.m.queued.Inc()
		wake(w.x.toLease)
		w.settle()
		if jobs := w.jobs(); len(jobs) > 0 {
			t.Errorf("jobs left: %+v", jobs)
		}
		w.tap(a)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestResume: what was wanted and whole when the process was killed is queued
// by the next one, though no job was written.
func TestResume(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		img := newImage(t, "img", a, b)
		w := start(t, dir, Options{Rules: everything}, nil)
		w.manifest(redis, img)
		w.settle()
		w.keep(a) // and killed before anybody was told
		w.keep(b)
		w.settle()
		w.wantNoIndex(img)
		w.stop()
		w = start(t, dir, Options{Rules: everything}, nil)
		w.settle()
		w.wantIndex(img, a, b)
	})
}

// TestLostZTOC: a layer whose zTOC is gone is built again, to the same index.
func TestLostZTOC(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		img := newImage(t, "img", a)
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		before := w.wantIndex(img, a)
		_, err := w.store.Purge(t.Context(), w.layer(digest.FromBytes(a)).ZTOC)
		w.check("purge", err)
		other := newImage(t, "other", a)
		w.manifest(redis, other)
		w.settle()
		w.wantIndex(other, a)
		if got := w.wantIndex(img, a); got.Digest != before.Digest {
			t.Errorf("index is %s, was %s", got.Digest, before.Digest)
		}
	})
}

// TestTapTakesAJobOver: a layer that waits in the queue passes by. While the
// tap has it no worker touches it, and when the tap fails one goes on at once.
func TestTapTakesAJobOver(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		build := w.x.newBuilder
		var builds atomic.Int32
		w.x.newBuilder = func(spanSize int64, c compression, layerSize int64) (builder, error) {
			if builds.Add(1) == 1 {
				return nil, errFault
			}
			return build(spanSize, c, layerSize)
		}
		img, s := newImage(t, "img", a), newStream()
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		w.x.Tap(digest.FromBytes(a), int64(len(a)), s.open)
		time.Sleep(time.Minute)
		w.settle()
		if got := builds.Load(); got != 2 {
			t.Errorf("%d builds, want 2", got)
		}
		w.wantNoIndex(img)
		s.feed(nil, errFault)
		w.settle()
		w.wantIndex(img, a)
	})
}

// TestWorkersShareTheQueue: two layers are built at once by two workers.
func TestWorkersShareTheQueue(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, Workers: 2}, nil)
		build := w.x.newBuilder
		var both sync.WaitGroup
		both.Add(2)
		w.x.newBuilder = func(spanSize int64, c compression, layerSize int64) (builder, error) {
			both.Done()
			both.Wait()
			return build(spanSize, c, layerSize)
		}
		img := newImage(t, "img", a, b)
		w.keep(a)
		w.keep(b)
		w.manifest(redis, img)
		w.settle()
		w.wantIndex(img, a, b)
	})
}
