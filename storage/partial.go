package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Partial is a blob that is still arriving, in any order, over restarts too.
// Its bytes are unverified. ReadAt and WriteAt may be called from many
// goroutines; who writes keeps account of what is there.
type Partial struct {
	s   *Store
	ctx context.Context // of OpenPartial: bounds how long WriteAt waits for room
	d   digest.Digest
	row PartialRow // as it was found; not changed

	source string
	beside string // the key of its file where another source's is open; "": it may have a row
	file   PartialFile

	filing  sync.Mutex    // held by Checkpoint, for which Close waits
	growing chan struct{} // full while somebody takes room

	mu      sync.Mutex
	state   partialState
	filed   int64       // bytes that its row has; -1 without a row
	size    int64       // of the whole blob, as it was filed; -1: not known
	written oci.Extents // here, by the row or written since, or about to be
	there   oci.Extents // of these, what a write has come to its end with
	room    allotment
	purged  func()   // see OnPurge
	read    *opening // of the blob that it was promoted to: not evicted before Close
}

type partialState int

const (
	partialOpen     partialState = iota
	partialPromoted              // a blob now
	partialPurged                // see detach; its bytes take room until it is closed
	partialGone                  // discarded; these do, too
	partialClosed
)

// Have is what was synced when the partial was opened: sorted, disjoint.
func (p *Partial) Have() []oci.Range { return slices.Clone(p.row.Have) }

// Size is the blob's size as it was filed, -1 while unknown.
func (p *Partial) Size() int64 { return p.row.Size }

// File is the local file, nil where there is none. It stays readable until
// Close, whatever becomes of the partial.
func (p *Partial) File() *os.File { return p.file.File() }

// ReadAt reads what is there; a hole gives zero bytes or io.EOF.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) { return p.file.ReadAt(b, off) }

// Reserve makes room for size bytes in all, those that are there included.
func (p *Partial) Reserve(ctx context.Context, size int64) error {
	return p.grow(ctx, 0, func() int64 { return size - p.room.size })
}

// grow takes as much room as missing, which is called with p.mu held, says; at once
// least, where that needs no eviction. One at a time: several may miss the same room, and
// who waited finds what the others took. It may wait for eviction, so p.mu is not held.
func (p *Partial) grow(ctx context.Context, least int64, missing func() int64) error {
	select {
	case p.growing <- struct{}{}:
		defer func() { <-p.growing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	n := missing()
	p.mu.Unlock()
	if n <= 0 {
		return nil
	}
	if n < least {
		if ok, err := p.s.tryTake(ctx, least); err != nil {
			return err
		} else if ok {
			p.addRoom(least)
			return nil
		}
	}
	if err := p.s.take(ctx, n); err != nil {
		return err
	}
	p.addRoom(n)
	return nil
}

// addRoom adds what was promised, or gives it back where it came too late.
func (p *Partial) addRoom(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writable() == nil {
		p.room.size += n
		p.s.space.arrive(n)
	} else {
		p.s.space.giveBack(n)
	}
}

// WriteAt writes b. ErrFull when there is no room, and nothing left to evict. What
// was purged meanwhile is written still, for those who read it.
func (p *Partial) WriteAt(b []byte, off int64) (int, error) {
	r := oci.Range{Off: off, End: off + int64(len(b))}
	for {
		if ok, err := p.note(r); err != nil {
			return 0, err
		} else if ok {
			return p.put(b, off)
		}
		if err := p.grow(p.ctx, step, func() int64 { return p.missing(r) }); err != nil {
			return 0, err
		}
	}
}

// put writes b, for which there is room by the account. What fails keeps its room, and
// counts as not on the medium: it may be written again.
func (p *Partial) put(b []byte, off int64) (n int, err error) {
	err = p.s.unlessFull(p.ctx, int64(len(b)), func() (err error) {
		n, err = p.file.WriteAt(b, off)
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room.wrote(p.there.Add(oci.Range{Off: off, End: off + int64(n)}))
	return n, err
}

// note counts r as used, if there is room for it.
func (p *Partial) note(r oci.Range) (ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.writable(); err != nil {
		return false, err
	}
	if p.missing(r) > 0 {
		return false, nil
	}
	p.room.count(p.written.Add(r))
	return true, nil
}

// missing is how much room there has to be more for r; p.mu is held.
func (p *Partial) missing(r oci.Range) int64 {
	return p.room.used + p.written.Lacks(r) - p.room.size
}

// usable is nil while the partial is one; p.mu is held.
func (p *Partial) usable() error {
	switch p.state {
	case partialOpen:
		return nil
	case partialPurged, partialGone:
		return fmt.Errorf("partial %s: %w", p.d, ErrNotFound)
	}
	return fmt.Errorf("partial %s: %w", p.d, os.ErrClosed)
}

// end moves p out of partialOpen; false when it is out already. Who ends it
// releases its room, once that is counted elsewhere or the bytes are gone.
func (p *Partial) end(to partialState) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != partialOpen {
		return false
	}
	p.state = to
	return true
}

func (p *Partial) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room.release()
}

// Checkpoint syncs what was written and files that have is there, of size bytes
// in all (-1 while unknown): from there a restart may go on. Everything in have
// was written before the call. Once the Partial is promoted, discarded or
// closed, or where it is beside another source's, it does nothing.
func (p *Partial) Checkpoint(ctx context.Context, size int64, have []oci.Range) error {
	p.filing.Lock()
	defer p.filing.Unlock()
	if p.over() || p.beside != "" {
		return nil
	}
	if err := p.file.Sync(); err != nil {
		p.s.metrics.failed(opCheckpoint)
		return err
	}
	e, err := p.s.digests.lock(ctx, p.d)
	if err != nil {
		return err
	}
	defer p.s.digests.unlock(e)
	if p.over() {
		return nil
	}
	row := PartialRow{Digest: p.d, Size: size, Have: slices.Clone(have), Source: p.source, Touched: p.s.now().UTC().Round(0)}
	if err := p.s.update(ctx, func(tx Tx) error { return tx.PutPartial(row) }); err != nil {
		p.s.metrics.failed(opCheckpoint)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filed = oci.Extents(have).Bytes()
	if size >= 0 {
		p.size = size
	}
	return nil
}

// inFile is how many bytes its file has at most: what was written without being
// filed is there, too.
func (p *Partial) inFile() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size >= 0 {
		return max(p.filed, min(p.room.there, p.size))
	}
	return max(p.filed, p.room.there)
}

func (p *Partial) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state != partialOpen
}

// Promote makes the first size bytes the blob, Cached: the caller has hashed
// every one of them. From its return on Store.Open finds it. The Partial stays
// readable until it is closed; until then the blob is not evicted, and where
// another writer was first the bytes count for both. ErrNotFound when it was purged.
func (p *Partial) Promote(ctx context.Context, kind Kind, size int64) error {
	var twice bool
	o := p.s.digests.opened(p.d)
	err := p.s.settle(ctx, BlobRow{Digest: p.d, Size: size, Kind: kind}, settlement{
		dur:         Cached,
		dropPartial: p.beside == "",
		done: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.state != partialOpen { // closed meanwhile
				p.s.closed(o)
				return
			}
			p.state, p.read = partialPromoted, &o
			if !twice { // else its file is gone by name only
				p.room.release()
			}
		},
		bytes: func(there bool) error {
			twice = there
			p.mu.Lock()
			err := p.usable()
			p.mu.Unlock()
			switch {
			case err != nil:
				return err
			case there:
				return p.file.Remove()
			}
			return p.s.unlessFullLocked(ctx, rowsBytes, func() error { return p.file.Commit(ctx, p.d, size) })
		},
	})
	if err != nil {
		p.s.closed(o)
	}
	return err
}

// Discard deletes the partial: what it holds is wrong, or of no use.
func (p *Partial) Discard(ctx context.Context) error {
	e, err := p.s.digests.lock(ctx, p.d)
	if err != nil {
		return err
	}
	defer p.s.digests.unlock(e)
	_, err = p.removeLocked(ctx, partialGone)
	return err
}

// removeLocked deletes row and file of a partial that is open, and of which to is
// what becomes, for who has the digest locked.
func (p *Partial) removeLocked(ctx context.Context, to partialState) (freed int64, err error) {
	p.mu.Lock()
	freed = p.room.used
	p.mu.Unlock()
	if !p.end(to) {
		return 0, nil
	}
	if p.beside == "" {
		if err = p.s.meta.Update(ctx, func(tx Tx) error { return tx.DeletePartial(p.d) }); err != nil {
			p.s.metrics.failed(opRow)
			freed = 0
		}
	}
	rerr := p.file.Remove()
	if to == partialPurged {
		p.detach(rerr == nil)
	}
	return freed, errors.Join(err, rerr)
}

// Close lets go of the partial. What was filed stays for the next OpenPartial, unless
// the blob is here by now; what never was is deleted.
func (p *Partial) Close() error {
	p.filing.Lock()
	defer p.filing.Unlock()
	var err error
	parked := false
	if p.end(partialClosed) {
		defer p.release()
		if parked = p.filed >= 0; parked {
			p.s.space.park(p.d, p.inFile())
		} else {
			err = p.file.Remove()
		}
	}
	err = errors.Join(err, p.file.Close())
	p.mu.Lock()
	if p.state != partialClosed {
		p.room.release()
		if p.read != nil {
			p.s.closed(*p.read)
		}
		p.state, p.read = partialClosed, nil
	}
	p.mu.Unlock()
	p.s.partials.disclaim(p)
	if parked {
		p.s.dropIfWhole(p.ctx, p.d)
	}
	return err
}
