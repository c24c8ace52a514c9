package proxy

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

const (
	// passTurn is how long what is passed on to one client may hold a connection
	// that others wait for, while its client is slow.
	passTurn = 5 * time.Second
	// slowClient is a client that takes fewer bytes a second.
	slowClient = 1 << 20
)

// passBody is what comes from upstream for one client alone. While others wait for a
// connection, a client that is slow holds none: it is given up, and what is missing
// asked for when the client goes on, in its turn. Read and write are for one goroutine.
type passBody struct {
	turn time.Duration
	open func(off int64) (*upstream.Body, error)
	end  int64 // where it ends; -1: not known, and then nothing is given up
	pos  int64

	since time.Time // of this turn
	from  int64     // where it began
	slept time.Duration

	mu      sync.Mutex
	body    *upstream.Body // nil: given up
	writing *time.Timer    // while the client is being written to
}

// passOn asks for r of a blob of size bytes for one client.
func (p *Proxy) passOn(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, r oci.Range, size int64) (*passBody, error) {
	b := &passBody{turn: p.passTurn, pos: r.Off, end: r.End}
	if b.end < 0 {
		b.end = size
	}
	b.open = func(off int64) (*upstream.Body, error) {
		return up.Registry.Blob(ctx, repo.Name, d, oci.Range{Off: off, End: r.End})
	}
	return b, b.begin()
}

func (b *passBody) begin() error {
	body, err := b.open(b.pos)
	if err != nil {
		return err
	}
	b.since, b.from, b.slept = time.Now(), b.pos, 0
	b.mu.Lock()
	b.body = body
	b.mu.Unlock()
	return nil
}

func (b *passBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	body := b.body
	b.mu.Unlock()
	if body == nil {
		if b.end >= 0 && b.pos >= b.end {
			return 0, io.EOF
		}
		if err := b.begin(); err != nil {
			return 0, err
		}
		body = b.body
	}
	n, err := body.Read(p)
	b.pos += int64(n)
	return n, err
}

// to gives w as who it is for.
func (b *passBody) to(w io.Writer) io.Writer { return passWriter{b, w} }

type passWriter struct {
	b *passBody
	w io.Writer
}

func (w passWriter) Write(p []byte) (int, error) {
	b, began := w.b, time.Now()
	b.mu.Lock()
	b.writing = time.AfterFunc(b.turn, b.stuck)
	b.mu.Unlock()
	n, err := w.w.Write(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing.Stop()
	b.writing = nil
	b.slept += time.Since(began)
	if took := time.Since(b.since); took >= b.turn {
		if slow := b.slept > took/2 && float64(b.pos-b.from) < slowClient*took.Seconds(); slow {
			b.yieldLocked()
		}
		b.since, b.from, b.slept = time.Now(), b.pos, 0
	}
	return n, err
}

// stuck looks at a write that takes long.
func (b *passBody) stuck() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writing != nil && !b.yieldLocked() {
		b.writing.Reset(b.turn)
	}
}

// yieldLocked gives the connection up where others wait for it.
func (b *passBody) yieldLocked() bool {
	if b.body == nil {
		return true
	}
	if b.end < 0 || !b.body.Crowded() {
		return false
	}
	_ = b.body.Close() // what it would bring is asked for again
	b.body = nil
	return true
}

func (b *passBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
