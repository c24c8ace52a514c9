package storage

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// digests is what this process knows of blobs beyond their rows: who has one
// open, who is changing it, and which are committed but not durable yet.
type digests struct {
	mu sync.Mutex
	m  map[digest.Digest]*entry
}

// entry exists while there is anything to know. Its fields are guarded by
// digests.mu.
type entry struct {
	d       digest.Digest
	users   int           // who holds the entry; it goes with the last, unless pending or bad
	readers *readers      // of the file that has the name now; nil: none, as far as is known
	lock    chan struct{} // cap 1; whoever's token is in it changes the bytes or rows of d
	pending *pending
	bad     bool // the bytes were found to be others: they are not served
}

// pending is a blob that has its name but no row yet, or not this row.
type pending struct {
	row         BlobRow
	rowed       bool // it has a row already, which is to be replaced
	dropPartial bool // the partial's row goes when the blob's comes
}

func (ds *digests) hold(d digest.Digest) *entry {
	e := ds.m[d]
	if e == nil {
		if ds.m == nil {
			ds.m = map[digest.Digest]*entry{}
		}
		e = &entry{d: d}
		ds.m[d] = e
	}
	e.users++
	return e
}

func (ds *digests) leave(e *entry) {
	e.users--
	if e.users == 0 && e.pending == nil && !e.bad {
		delete(ds.m, e.d)
	}
}

// readers are those who have one file open.
type readers struct {
	n    int
	left int64 // bytes that the file takes without a name, until the last has closed it; 0: it has one
}

// opening is one open blob.
type opening struct {
	e  *entry
	of *readers
}

// opened counts an open blob, which is not evicted until closed is called. It is
// called before the blob is opened.
func (ds *digests) opened(d digest.Digest) opening {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	e := ds.hold(d)
	if e.readers == nil {
		e.readers = &readers{}
	}
	e.readers.n++
	return opening{e, e.readers}
}

// closed undoes opened, and says how many bytes that sets free, if the file had
// been removed.
func (ds *digests) closed(o opening) (left int64) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if o.of.n--; o.of.n == 0 {
		left = o.of.left
	}
	ds.leave(o.e)
	return left
}

// removed notes that the file of size bytes under e's name is gone, by its name
// only where it is open: then it says how many bytes it goes on taking. The caller
// has e locked, and nobody can open that file any more.
func (ds *digests) removed(e *entry, size int64) (left int64) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if e.readers == nil || e.readers.n == 0 {
		return 0
	}
	e.readers.left, e.readers = size, nil
	return size
}

// lock waits for the right to change bytes or rows of d; unlock gives it back.
func (ds *digests) lock(ctx context.Context, d digest.Digest) (*entry, error) {
	ds.mu.Lock()
	e := ds.hold(d)
	if e.lock == nil {
		e.lock = make(chan struct{}, 1)
	}
	ds.mu.Unlock()
	select {
	case e.lock <- struct{}{}:
		return e, nil
	case <-ctx.Done():
		ds.mu.Lock()
		ds.leave(e)
		ds.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// lockIdle is lock for a blob that nobody reads, changes or waits for, and that
// is not pending; nil for any other.
func (ds *digests) lockIdle(d digest.Digest) *entry {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if !ds.idleLocked(d) {
		return nil
	}
	e := ds.hold(d)
	e.lock = make(chan struct{}, 1) // nobody has one that may have been there
	e.lock <- struct{}{}
	return e
}

func (ds *digests) unlock(e *entry) {
	<-e.lock
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.leave(e)
}

// idle reports whether lockIdle could succeed.
func (ds *digests) idle(d digest.Digest) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.idleLocked(d)
}

// idleLocked is idle for who has ds.mu. That a blob is bad keeps its entry, not the
// blob.
func (ds *digests) idleLocked(d digest.Digest) bool {
	e := ds.m[d]
	return e == nil || e.users == 0 && e.pending == nil
}

// pendingOf gives the pending row of d, nil where there is none.
func (ds *digests) pendingOf(d digest.Digest) *pending {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if e := ds.m[d]; e != nil {
		return e.pending
	}
	return nil
}

// setPending replaces e's pending row; the caller has e locked.
func (ds *digests) setPending(e *entry, p *pending) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	e.pending = p
}

// isBad reports whether setBad was called.
func (ds *digests) isBad(d digest.Digest) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	e := ds.m[d]
	return e != nil && e.bad
}

// setBad has e's blob count as damaged from now on, or no longer. The caller
// holds e.
func (ds *digests) setBad(e *entry, bad bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	e.bad = bad
}
