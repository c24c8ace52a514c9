package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

const (
	// passChunks of passChunk bytes are what a transfer that is not kept has in memory
	// at most, for all who read it.
	passChunks = 64
	passChunk  = 32 << 10
	// maxPassings bounds the transfers that are shared, and so the memory of all.
	maxPassings = 8
	// passGrace, and a quarter of the time, is how long the others wait for one who is
	// slower, before that one has a transfer of its own.
	passGrace = 500 * time.Millisecond
)

// passing is one transfer of a whole blob that is not kept, for all who waited for its
// answer. Nothing of it is verified here: each reader verifies, as with one of its own.
type passing struct {
	p      *Proxy
	repo   oci.Repo
	d      digest.Digest
	cancel context.CancelCauseFunc
	began  time.Time

	mu      sync.Mutex
	places  int   // not given up
	err     error // why no more comes; io.EOF: that was all
	readers map[*passReader]struct{}
}

// passReader is one client's place in a passing. Its Read is for one goroutine; Close
// may be called from any.
type passReader struct {
	x    *passing
	up   *Upstream
	in   chan []byte     // closed behind the last, and where it is dropped
	ctx  context.Context // until it is closed
	end  context.CancelFunc
	rest []byte // of what came last
	pos  int64

	waited  time.Duration  // others did, for this one; the transfer's own
	dropped bool           // x.mu guards it; set before in is closed
	own     *upstream.Body // what is read then
	left    bool           // closed; x.mu guards it
}

// share has body, of the blob of f, read by so many, and gives each a place; none where
// too many are shared already, or the upstream is asked in each caller's own name. ctx is
// body's life, which cancel ends.
func (f *fill) share(ctx context.Context, cancel context.CancelCauseFunc, who asker, body *upstream.Body, n int) []*passReader {
	p := f.p
	if who.up.AsCaller != nil {
		return nil
	}
	if p.passings.Add(1) > maxPassings {
		p.passings.Add(-1)
		return nil
	}
	x := &passing{p: p, repo: who.repo, d: f.d, cancel: cancel, began: time.Now(), places: n, readers: map[*passReader]struct{}{}}
	all := make([]*passReader, n)
	for i := range all {
		life, end := context.WithCancel(p.life)
		t := &passReader{x: x, up: who.up, in: make(chan []byte, passChunks), ctx: life, end: end}
		all[i] = t
		x.readers[t] = struct{}{}
	}
	if !p.work.start(func() { x.run(ctx, body) }) {
		for _, t := range all {
			t.end()
		}
		p.passings.Add(-1)
		return nil
	}
	return all
}

// run is the transfer's goroutine.
func (x *passing) run(ctx context.Context, body *upstream.Body) {
	defer x.cancel(nil)
	defer body.Close()
	for {
		buf := make([]byte, passChunk) // not out of a pool: it is gone with the last who reads it
		n, err := body.Read(buf)
		x.p.metrics.upstreamBytes.Add(float64(n))
		if n > 0 {
			x.send(ctx, buf[:n])
		}
		if err != nil {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.err = err
			for t := range x.readers {
				close(t.in)
			}
			clear(x.readers)
			return
		}
	}
}

// send gives b to all who read.
func (x *passing) send(ctx context.Context, b []byte) {
	x.mu.Lock()
	all := slices.Collect(maps.Keys(x.readers))
	x.mu.Unlock()
	for _, t := range all {
		select {
		case t.in <- b:
		default:
			x.sendSlow(ctx, t, b, all)
		}
	}
}

// sendSlow waits for t to take b. Once others, with nothing left to read, have waited
// long enough for t it is dropped, and at once those who are as slow.
func (x *passing) sendSlow(ctx context.Context, t *passReader, b []byte, all []*passReader) {
	look := time.NewTicker(x.p.passGrace / 10)
	defer look.Stop()
	for sent := false; !sent && ctx.Err() == nil && t.ctx.Err() == nil; {
		began := time.Now()
		hungry := slices.ContainsFunc(all, func(o *passReader) bool { return o != t && x.hungry(o) })
		if hungry && t.waited > x.p.passGrace+began.Sub(x.began)/4 {
			x.drop(t)
			return
		}
		select {
		case t.in <- b:
			sent = true
		case <-look.C:
		case <-t.ctx.Done():
		case <-ctx.Done():
		}
		for _, o := range all {
			if hungry && (o == t || len(o.in) == passChunks) {
				o.waited += time.Since(began)
			}
		}
	}
}

// hungry reports whether t has nothing left to read. Who was dropped, or left, reads
// nothing of the transfer any more.
func (x *passing) hungry(t *passReader) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, reads := x.readers[t]
	return reads && len(t.in) == 0
}

// drop has t go on with a transfer of its own, from where it is: what was sent to it and
// not read is let go of. The one whom it was to help may have left meanwhile, and then
// nobody reads any more.
func (x *passing) drop(t *passReader) {
	x.mu.Lock()
	if _, reads := x.readers[t]; !reads {
		x.mu.Unlock()
		return
	}
	delete(x.readers, t)
	t.dropped = true
	x.endUnreadLocked()
	x.mu.Unlock()
	close(t.in)
	for range t.in { // t takes nothing more of it: see Read
	}
}

// Read implements io.Reader.
func (t *passReader) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		var b []byte
		var more bool
		select {
		case b, more = <-t.in:
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
		t.x.mu.Lock()
		dropped, err := t.dropped, t.x.err
		t.x.mu.Unlock()
		switch {
		case dropped: // b may be behind what was let go of
			return t.readOwn(p)
		case !more:
			return 0, err
		}
		t.rest = b
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	t.pos += int64(n)
	return n, nil
}

// readOwn reads what comes behind t's place from upstream, alone.
func (t *passReader) readOwn(p []byte) (int, error) {
	if t.own == nil {
		body, err := t.up.Registry.Blob(t.ctx, t.x.repo.Name, t.x.d, oci.Range{Off: t.pos, End: -1})
		if err != nil {
			return 0, err
		}
		t.own = body
		context.AfterFunc(t.ctx, func() { _ = body.Close() })
	}
	n, err := t.own.Read(p)
	t.x.p.metrics.upstreamBytes.Add(float64(n))
	return n, err
}

// endUnreadLocked ends the transfer where it came to its end, or nobody wants the rest.
func (x *passing) endUnreadLocked() {
	if len(x.readers) == 0 {
		x.cancel(nil)
	}
}

// Close gives up t's place. The last one ends the transfer.
func (t *passReader) Close() error {
	t.end()
	x := t.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if t.left {
		return nil
	}
	t.left = true
	delete(x.readers, t)
	x.endUnreadLocked()
	if x.places--; x.places == 0 {
		x.p.passings.Add(-1)
	}
	return nil
}
