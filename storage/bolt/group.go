package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/storage"
)

// group lets concurrent updates share a write and its fsync. It has no timer
// and no goroutine: whoever gets the lead commits all that queued up while the
// one before was writing, so a lone update never waits and a crowd pays once.
// (bbolt's own Batch delays every update by up to 10 ms.)
type group struct {
	begins *beginner
	path   string
	told   *told
	// broken is why no update runs any more, where bbolt panicked while one was begun
	// or written.
	broken atomic.Pointer[error]
	lead   chan struct{} // cap 1; whoever's token is in it writes

	mu    sync.Mutex
	queue []*update
}

// maxGroup bounds one transaction, and so the wait of the first in it.
const maxGroup = 256

type update struct {
	fn   func(storage.Tx) error
	done chan error // cap 1: the leader waits for nobody
}

func newGroup(b *beginner, path string, t *told) *group {
	return &group{begins: b, path: path, told: t, lead: make(chan struct{}, 1)}
}

// run returns when fn's writes are durable, or fn failed.
func (g *group) run(ctx context.Context, fn func(storage.Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u := &update{fn: fn, done: make(chan error, 1)}
	g.mu.Lock()
	g.queue = append(g.queue, u)
	g.mu.Unlock()
	for {
		select {
		case err := <-u.done:
			return err
		case g.lead <- struct{}{}:
			g.commitNext()
		case <-ctx.Done():
			if g.withdraw(u) {
				return context.Cause(ctx)
			}
			return <-u.done // a leader has it: soon
		}
	}
}

// withdraw takes u off the queue; false when a leader was faster.
func (g *group) withdraw(u *update) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue, u)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	return i >= 0
}

// commitNext is the leader's work: one group, then the lead goes to the next.
func (g *group) commitNext() {
	defer func() { <-g.lead }()
	g.mu.Lock()
	n := min(len(g.queue), maxGroup)
	us := slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	g.mu.Unlock()
	for len(us) > 0 {
		us = g.commit(us)
	}
}

// errAborted is what the others of a group get when one ended its goroutine.
var errAborted = errors.New("update rows: another update of the same group panicked")

// commit tries us in one transaction. One that fails, be it for a damaged page that it
// came across, is told so and the others, which may have seen its writes, are returned
// to be tried again without it.
func (g *group) commit(us []*update) (again []*update) {
	if len(us) == 0 {
		return nil
	}
	settled, at := false, -1 // whose fn runs, if one does
	settle := func(err error) {
		settled = true
		for _, u := range us {
			u.done <- err
		}
	}
	strike := func(i int, err error) []*update {
		settled = true
		us[i].done <- err
		return slices.Delete(us, i, i+1)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		cause := errAborted // a fn panicked: that goes on up, but strands nobody
		if r != nil && isDamaged(r) {
			cause, r = damaged(g.path, why(r)), nil
			if at >= 0 {
				again = strike(at, cause)
			} else {
				g.broken.Store(&cause)
			}
		}
		if !settled {
			settle(cause)
		}
		if r != nil {
			panic(r)
		}
	}()
	t, err := g.begin()
	if err != nil {
		settle(err)
		return nil
	}
	defer func() {
		was := at
		at = -1
		g.begins.end(t)
		at = was
	}()
	for i, u := range us {
		at = i
		if err := u.fn(newTx(t, g.told)); err != nil {
			return strike(i, err)
		}
	}
	at = -1
	if err := t.Commit(); err != nil {
		settle(fmt.Errorf("update rows: %w", tell(err)))
		return nil
	}
	settle(nil)
	return nil
}

func (g *group) begin() (*bbolt.Tx, error) {
	if err := g.broken.Load(); err != nil {
		return nil, *err
	}
	t, err := g.begins.begin(true)
	if err == nil {
		return t, nil
	}
	err = fmt.Errorf("update rows: %w", err)
	if errors.Is(err, storage.ErrCorrupt) {
		g.broken.Store(&err)
	}
	return nil, err
}

// tell turns the operating system's errors into those of the contract.
func tell(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}
