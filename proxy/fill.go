package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// cell is the grid of ranged reads into a blob that has no index: small,
	// because runs of cells are one request anyway and lazy clients read tens
	// of small places.
	cell = 256 << 10
	// chunk is what one read from upstream may bring at most.
	chunk = 128 << 10
	// holdBack is how much of a blob's end waits for the digest, so that no
	// client ever has a complete wrong body.
	holdBack = 64 << 10
	// maxRuns bounds one fill's ranged transfers; what is wanted meanwhile
	// merges with its neighbours, so that a crowd costs a handful of requests.
	maxRuns = 4
	// maxRunBytes bounds one ranged transfer.
	maxRunBytes = 16 << 20
	// syncEvery is how much a pump may write before it is synced and filed.
	syncEvery = 32 << 20
)

// errStopped ends transfers that nobody waits for any more.
var errStopped = errors.New("nobody waits for this blob any more")

// fill is one blob that is not whole here, while anybody cares: a file with
// holes, transfers that write into it and readers behind them. Every byte is
// written once, by whoever claimed it in busy, so what was hashed is what the
// file holds.
//
// There is one for each upstream and digest: bytes of a partial are unverified,
// and those of one upstream must not reach who asks another.
type fill struct {
	p  *Proxy
	d  digest.Digest
	up *Upstream // whose bytes it has; who asks it is told by asks

	opened chan struct{} // closed when part is usable, or err says why not
	closed chan struct{} // closed when the last trace is gone
	part   *storage.Partial

	mu       sync.Mutex          // guards all below
	err      error               // of opening, or why what it had is dropped
	size     int64               // -1: not known yet
	said     votes               // of upstream's answers, on size
	verified bool                // whole, and the digest matched
	roomy    bool                // there is room for all of it, as far as its size is known
	kept     bool                // fetched on purpose, whoever leaves
	detached bool                // see purged
	refs     int                 // requests
	heirs    map[*spare]struct{} // of those of them that want all of it
	taps     int                 // the indexer's readers: they keep the fill, and stop nothing
	closing  bool
	runs     map[*run]struct{}
	extents
	asking
	pumping
	idling
	wake chan struct{} // closed at the next change; nil: nobody waits
	// dropped is set with err by discard, and closed when what it had is gone
	dropped chan struct{}
}

// keepError is a store that does not take bytes, which is no reason to refuse
// them to a client.
type keepError struct{ error }

func (e keepError) Unwrap() error { return e.error }

type fillKey struct {
	upstream string
	d        digest.Digest
}

func (f *fill) key() fillKey { return fillKey{f.up.Name, f.d} }

// errUnproven refuses a fill whose bytes may be another repository's.
var errUnproven = errors.New("this repository was not found to have the blob")

// acquire joins or makes the fill of d. A caller who was not found to have the
// right gets only one that proves it: of its own repository, and with no bytes
// before upstream answered; otherwise errUnproven. made says that this call made
// it. Nobody gets one of a blob that is whole here: errCame. The caller releases it.
func (p *Proxy) acquire(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, entitled bool) (f *fill, made bool, err error) {
	for {
		p.mu.Lock()
		f = p.fills[fillKey{up.Name, d}]
		if f == nil {
			f = &fill{
				p: p, d: d, up: up, size: -1, refs: 1, runs: map[*run]struct{}{},
				opened: make(chan struct{}), closed: make(chan struct{}),
				asking: asking{lead: asker{up, repo}, proven: entitled}, idling: idling{due: time.Now().Add(lingerMost)},
			}
			p.fills[f.key()] = f
			p.mu.Unlock()
			f.open()
			f, err = f.usable(asker{up, repo}, entitled, false)
			return f, true, err
		}
		p.mu.Unlock()
		gone, unused := f.join()
		if gone == nil {
			select {
			case <-f.opened:
				f, err = f.usable(asker{up, repo}, entitled, unused)
				return f, false, err
			case <-ctx.Done():
				f.release()
				return nil, false, context.Cause(ctx)
			}
		}
		select { // it is being put away, or what it had is dropped: wait, then look again
		case <-gone:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// filling reports the repository of up's fill of d that is at work.
func (p *Proxy) filling(up *Upstream, d digest.Digest) (oci.Repo, bool) {
	p.mu.Lock()
	f := p.fills[fillKey{up.Name, d}]
	p.mu.Unlock()
	if f == nil {
		return oci.Repo{}, false
	}
	return f.asks().repo, true
}

// join takes a place in f, or gives what is closed once the next fill may begin. unused
// says that nobody had one: f lingers, and its lead has left.
func (f *fill) join() (gone <-chan struct{}, unused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dropped != nil:
		return f.dropped, false
	case f.closing:
		return f.closed, false
	}
	unused = f.unusedLocked()
	f.refs++
	return nil, unused
}

// errCame refuses a fill of a blob that is whole here: it came between the look
// that did not find it and this one, as when another fill ended meanwhile.
var errCame = errors.New("the blob is whole here by now")

// mayOpen looks at what may have changed since who asks for the blob looked.
func (f *fill) mayOpen() error {
	if err := f.p.store.View(f.p.life, func(tx storage.Tx) error { return storage.NotBlocked(tx, f.d) }); err != nil {
		return fmt.Errorf("look up %s: %w", f.d, err)
	}
	if _, err := f.p.store.Stat(f.p.life, f.d); err == nil {
		return errCame
	}
	return nil
}

// open finds what an earlier process or fill left of the blob.
func (f *fill) open() {
	defer close(f.opened)
	if err := f.mayOpen(); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
		return
	}
	part, err := f.p.store.OpenPartialFrom(f.p.life, f.d, f.up.Name)
	if err == nil {
		defer part.OnPurge(f.purged)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.err = keepError{fmt.Errorf("open partial %s: %w", f.d, err)}
		return
	}
	f.part = part
	f.size = part.Size()
	for _, r := range part.Have() {
		f.have.Add(r)
	}
	f.found = len(f.have) > 0
}

// release gives the fill back. The last one out stops what nobody waits for
// and, when nothing is at work any more, puts the fill away.
func (f *fill) release() {
	f.mu.Lock()
	f.refs--
	if f.refs == 0 {
		f.stopLocked()
	}
	last := f.idleLocked()
	f.mu.Unlock()
	if last {
		f.putAway()
	}
}

// stopLocked stops what goes on for nobody.
func (f *fill) stopLocked() {
	f.wanted = nil
	for r := range f.runs {
		if at := r.at.Load(); at == r.Off || r.End-at > littleLeft {
			r.cancel(errStopped)
		}
	}
	if f.pump != nil && (f.detached || f.p.opt.StopOnDisconnect && !f.kept) {
		f.pump.cancel(errStopped)
	}
}

// forget makes whoever asks from now on begin anew.
func (f *fill) forget() {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if f.p.fills[f.key()] == f {
		delete(f.p.fills, f.key())
	}
}

// changedLocked wakes everybody who waits.
func (f *fill) changedLocked() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

func (f *fill) waitLocked() <-chan struct{} {
	if f.wake == nil {
		f.wake = make(chan struct{})
	}
	return f.wake
}
