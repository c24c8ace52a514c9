package proxy

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// watched are blobs of which each read of a partial is counted; then is called behind it.
type watched struct {
	storage.Blobs
	reads *atomic.Int64
	then  *atomic.Pointer[func()]
}

func (w watched) OpenPartial(ctx context.Context, key string) (storage.PartialFile, error) {
	f, err := w.Blobs.OpenPartial(ctx, key)
	return watchedFile{f, w}, err
}

type watchedFile struct {
	storage.PartialFile
	w watched
}

func (f watchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.PartialFile.ReadAt(p, off)
	f.w.reads.Add(1)
	if then := f.w.then.Swap(nil); then != nil {
		(*then)()
	}
	return n, err
}

// TestHashingEnds: what is here of a blob is hashed, to be completed or to have the rest
// passed on. That is over with the transfer, or the client, that it is done for: not one
// more read is made.
func TestHashingEnds(t *testing.T) {
	const size = 8 << 20
	g := newRegistry(t)
	w := watched{reads: &atomic.Int64{}, then: &atomic.Pointer[func()]{}}
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { w.Blobs, o.Blobs = o.Blobs, &w })
	body := random(size, 3)
	d := g.addBlob("a", body)
	filePartial(t, s, d, body[:size-1])
	who := asker{s.p.routes().def, oci.Repo{Upstream: "up", Name: "a"}}
	f, _, err := s.p.acquire(t.Context(), who.up, who.repo, d, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.release()

	stop := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pump.cancel(errStopped)
	}
	w.reads.Store(0)
	w.then.Store(&stop)
	f.pumpOnce(nil)
	waitFor(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.pump == nil
	})
	if n := w.reads.Load(); n != 1 || !errors.Is(f.pumpErr, errStopped) {
		t.Errorf("the pump that was stopped: %d reads, %v", n, f.pumpErr)
	}

	ctx, leave := context.WithCancel(t.Context())
	gone := func() { leave() }
	w.reads.Store(0)
	w.then.Store(&gone)
	reader := f.newReader(who, nil, oci.Range{Off: size / 2, End: size}, false, false)
	if _, err := reader.holdRest(ctx, errors.New("no room")); !errors.Is(err, context.Canceled) || w.reads.Load() != 1 {
		t.Errorf("the client that left: %d reads, %v", w.reads.Load(), err)
	}
}

// filePartial files the front of d as an earlier process left it.
func filePartial(t *testing.T, s *server, d digest.Digest, front []byte) {
	t.Helper()
	part, err := s.store.OpenPartialFrom(t.Context(), d, "up")
	if err != nil {
		t.Fatal(err)
	}
	_, err = part.WriteAt(front, 0)
	err = errors.Join(err, part.Checkpoint(t.Context(), int64(len(front))+1, []oci.Range{{Off: 0, End: int64(len(front))}}), part.Close())
	if err != nil {
		t.Fatal(err)
	}
}
