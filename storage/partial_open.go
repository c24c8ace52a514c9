package storage

import (
	"context"
	"errors"
	"fmt"
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
	p := &Partial{s: s, ctx: ctx, d: d, source: source, filed: -1, size: -1, room: allotment{s: s, partial: true, fill: true}}
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
	if errors.Is(err, ErrNotFound) && p.s.isStray(p.d, p.d.String()) {
		if err := p.s.removePartialFile(ctx, p.d); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, ErrNotFound):
		p.row = PartialRow{Digest: p.d, Size: -1}
	case err != nil:
		return err
	default:
		p.row, p.filed, p.size = row, oci.Extents(row.Have).Bytes(), row.Size
	}
	err = p.s.unlessFullLocked(ctx, step, func() (err error) {
		p.file, err = p.s.blobs.OpenPartial(ctx, p.d.String())
		return err
	})
	if err != nil {
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
	p.room.adopt(max(p.filed, p.s.space.unpark(p.d))) // what was written and not filed is in the file, too
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
	if p := s.digests.pendingOf(e.d); p != nil && p.dropPartial {
		return 0, nil // its bytes are the blob's by now
	}
	return oci.Extents(row.Have).Bytes(), s.removePartialFile(ctx, e.d)
}

// removePartialFile deletes the file of a partial that nobody has open.
func (s *Store) removePartialFile(ctx context.Context, d digest.Digest) error {
	f, err := s.blobs.OpenPartial(ctx, d.String())
	if err != nil {
		return err
	}
	err = f.Remove()
	if err == nil {
		s.strayGone(d, d.String())
	}
	return errors.Join(err, f.Close())
}
