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

// partials are the open ones: one a digest at most.
type partials struct {
	mu sync.Mutex
	m  map[digest.Digest]*Partial
}

func (ps *partials) claim(p *Partial) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.m[p.d] != nil {
		return false
	}
	if ps.m == nil {
		ps.m = map[digest.Digest]*Partial{}
	}
	ps.m[p.d] = p
	return true
}

func (ps *partials) disclaim(p *Partial) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.m, p.d)
}

func (ps *partials) get(d digest.Digest) *Partial {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.m[d]
}

func (ps *partials) isOpen(d digest.Digest) bool { return ps.get(d) != nil }

// Partial is a blob that is still arriving, in any order, over restarts too.
// Its bytes are unverified. ReadAt and WriteAt may be called from many
// goroutines; who writes keeps account of what is there.
type Partial struct {
	s   *Store
	ctx context.Context // of OpenPartial: bounds how long WriteAt waits for room
	d   digest.Digest
	row PartialRow // as it was found; not changed

	source string
	file   PartialFile

	filing sync.Mutex // held by Checkpoint, for which Close waits

	mu      sync.Mutex
	state   partialState
	filed   int64   // bytes that its row has; -1 without a row
	written extents // here, by the row or written since
	room    allotment
}

type partialState int

const (
	partialOpen     partialState = iota
	partialPromoted              // a blob now
	partialGone                  // discarded or purged
	partialClosed
)

// OpenPartial is OpenPartialFrom where there is only one source.
func (s *Store) OpenPartial(ctx context.Context, d digest.Digest) (*Partial, error) {
	return s.OpenPartialFrom(ctx, d, "")
}

// OpenPartialFrom opens what source has sent of d, or begins it; what another
// source sent is dropped, since unverified bytes of one must not reach who asks
// the other. ErrBusy when another caller has it open. ctx also bounds the
// waiting of WriteAt for room.
func (s *Store) OpenPartialFrom(ctx context.Context, d digest.Digest, source string) (*Partial, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return nil, err
	}
	defer s.digests.unlock(e)
	p := &Partial{s: s, ctx: ctx, d: d, source: source, filed: -1, room: allotment{s: s, partial: true}}
	if !s.partials.claim(p) {
		return nil, fmt.Errorf("open partial %s: %w", d, ErrBusy)
	}
	if err := p.open(ctx); err != nil {
		s.partials.disclaim(p)
		return nil, err
	}
	return p, nil
}

func (p *Partial) open(ctx context.Context) error {
	row, err := p.s.partialRow(ctx, p.d)
	if err == nil && row.Source != p.source {
		if err := errors.Join(p.s.dropPartialRow(ctx, p.d), p.s.removePartialFile(ctx, p.d)); err != nil {
			return err
		}
		err = ErrNotFound
	}
	switch {
	case errors.Is(err, ErrNotFound):
		p.row = PartialRow{Digest: p.d, Size: -1}
	case err != nil:
		return err
	default:
		p.row, p.filed = row, total(row.Have)
	}
	if p.file, err = p.s.blobs.OpenPartial(ctx, p.d.String()); err != nil {
		return err
	}
	if !reaches(p.file, p.row.Have) {
		p.s.log.WarnContext(ctx, "partial blob is shorter than its row says, begun anew", "digest", p.d)
		if err := p.s.dropPartialRow(ctx, p.d); err != nil {
			return errors.Join(err, p.file.Close())
		}
		p.row.Have, p.filed = nil, -1
	}
	p.written = slices.Clone(p.row.Have)
	p.s.space.unpark(p.d)
	p.room.adopt(max(p.filed, 0))
	return nil
}

// reaches reports whether f has the last byte of have.
func reaches(f PartialFile, have []oci.Range) bool {
	if len(have) == 0 {
		return true
	}
	var b [1]byte
	n, _ := f.ReadAt(b[:], have[len(have)-1].End-1)
	return n == 1
}

// dropPartialRow forgets a partial that nobody has open.
func (s *Store) dropPartialRow(ctx context.Context, d digest.Digest) error {
	if err := s.meta.Update(ctx, func(tx Tx) error { return tx.DeletePartial(d) }); err != nil {
		s.metrics.failed(opRow)
		return err
	}
	s.space.unpark(d)
	return nil
}

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
	p.mu.Lock()
	missing := size - p.room.size
	p.mu.Unlock()
	if missing <= 0 {
		return nil
	}
	return p.grow(ctx, missing)
}

// grow takes n bytes of room. It may wait for eviction, so p.mu is not held.
func (p *Partial) grow(ctx context.Context, n int64) error {
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
	p.room.size += n
	if p.state != partialOpen {
		p.room.release()
	}
}

// WriteAt writes b. ErrFull when there is no room, and nothing left to evict;
// ErrNotFound when the partial was purged meanwhile.
func (p *Partial) WriteAt(b []byte, off int64) (int, error) {
	for {
		missing, err := p.note(oci.Range{Off: off, End: off + int64(len(b))})
		if err != nil {
			return 0, err
		}
		if missing == 0 {
			return p.file.WriteAt(b, off)
		}
		if ok, err := p.s.tryTake(p.ctx, max(missing, step)); err != nil {
			return 0, err
		} else if ok {
			p.addRoom(max(missing, step))
			continue
		}
		if err := p.grow(p.ctx, missing); err != nil {
			return 0, err
		}
	}
}

// note counts r as written, if there is room for it, and else says how much is
// missing.
func (p *Partial) note(r oci.Range) (missing int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return 0, err
	}
	if missing := p.room.used + p.written.lacks(r) - p.room.size; missing > 0 {
		return missing, nil
	}
	p.room.count(p.written.add(r))
	return 0, nil
}

// usable is nil while the partial is one; p.mu is held.
func (p *Partial) usable() error {
	switch p.state {
	case partialOpen:
		return nil
	case partialGone:
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
// closed it does nothing.
func (p *Partial) Checkpoint(ctx context.Context, size int64, have []oci.Range) error {
	p.filing.Lock()
	defer p.filing.Unlock()
	if p.over() {
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
	if err := p.s.meta.Update(ctx, func(tx Tx) error { return tx.PutPartial(row) }); err != nil {
		p.s.metrics.failed(opCheckpoint)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filed = total(have)
	return nil
}

func (p *Partial) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state != partialOpen
}

// Promote makes the first size bytes the blob, Cached: the caller has hashed
// every one of them. From its return on Store.Open finds it. The Partial stays
// readable until it is closed.
func (p *Partial) Promote(ctx context.Context, kind Kind, size int64) error {
	return p.s.settle(ctx, BlobRow{Digest: p.d, Size: size, Kind: kind}, settlement{
		dur:         Cached,
		dropPartial: true,
		done: func() {
			p.end(partialPromoted)
			p.release()
		},
		bytes: func(there bool) error {
			p.mu.Lock()
			err := p.usable()
			p.mu.Unlock()
			switch {
			case err != nil:
				return err
			case there:
				return p.file.Remove()
			}
			return p.file.Commit(ctx, p.d, size)
		},
	})
}

// Discard deletes the partial: what it holds is wrong, or of no use.
func (p *Partial) Discard(ctx context.Context) error {
	e, err := p.s.digests.lock(ctx, p.d)
	if err != nil {
		return err
	}
	defer p.s.digests.unlock(e)
	_, err = p.discardLocked(ctx)
	return err
}

// discardLocked is Discard for who has the digest locked.
func (p *Partial) discardLocked(ctx context.Context) (freed int64, err error) {
	p.mu.Lock()
	freed = p.room.used
	p.mu.Unlock()
	if !p.end(partialGone) {
		return 0, nil
	}
	defer p.release()
	if err := p.s.meta.Update(ctx, func(tx Tx) error { return tx.DeletePartial(p.d) }); err != nil {
		p.s.metrics.failed(opRow)
		return 0, errors.Join(err, p.file.Remove())
	}
	return freed, p.file.Remove()
}

// Close lets go of the partial. What was filed stays for the next OpenPartial;
// what never was is deleted.
func (p *Partial) Close() error {
	p.filing.Lock()
	defer p.filing.Unlock()
	var err error
	if p.end(partialClosed) {
		defer p.release()
		if p.filed >= 0 {
			p.s.space.park(p.d, p.filed)
		} else {
			err = p.file.Remove()
		}
	}
	err = errors.Join(err, p.file.Close())
	p.s.partials.disclaim(p)
	return err
}

// removePartialLocked removes what there is of e's partial.
func (s *Store) removePartialLocked(ctx context.Context, e *entry) (freed int64, err error) {
	if p := s.partials.get(e.d); p != nil {
		return p.discardLocked(ctx)
	}
	row, err := s.partialRow(ctx, e.d)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := s.dropPartialRow(ctx, e.d); err != nil {
		return 0, err
	}
	return total(row.Have), s.removePartialFile(ctx, e.d)
}

// removePartialFile deletes the file of a partial that nobody has open.
func (s *Store) removePartialFile(ctx context.Context, d digest.Digest) error {
	f, err := s.blobs.OpenPartial(ctx, d.String())
	if err != nil {
		return err
	}
	return errors.Join(f.Remove(), f.Close())
}
