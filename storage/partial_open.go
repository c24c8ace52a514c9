package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// partials are the open ones: one a digest at most, and those beside them.
type partials struct {
	mu     sync.Mutex
	m      map[digest.Digest]*Partial
	beside map[string]*Partial // by the keys of their files
}

// claim has p be the one of its digest, or, where that is another source's, one
// beside it: its file has a name of its own, and it has no row. It is false
// where p's own source has one.
func (ps *partials) claim(p *Partial) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch at := ps.m[p.d]; {
	case at == nil:
		if ps.m == nil {
			ps.m, ps.beside = map[digest.Digest]*Partial{}, map[string]*Partial{}
		}
		ps.m[p.d] = p
		return true
	case at.source == p.source:
		return false
	}
	for _, b := range ps.beside {
		if b.d == p.d && b.source == p.source {
			return false
		}
	}
	p.beside = besidePrefix + rand.Text()
	ps.beside[p.beside] = p
	return true
}

func (ps *partials) disclaim(p *Partial) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.beside != "" {
		delete(ps.beside, p.beside)
	} else if ps.m[p.d] == p { // else it was detached, and this is the next one
		delete(ps.m, p.d)
	}
}

// besides gives the open ones of d that have no row.
func (ps *partials) besides(d digest.Digest) (found []*Partial) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.beside {
		if p.d == d {
			found = append(found, p)
		}
	}
	return found
}

// isBeside reports whether key is of the file of an open one that has no row.
func (ps *partials) isBeside(key string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.beside[key] != nil
}

// besidePrefix begins the keys of such files, which are uploads' to whoever finds
// them after a crash: of uploads that nobody knows, so that they go.
const besidePrefix = uploadPrefix + "beside-"

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
// the other. While another source's is open, there is one beside it, which can
// become the blob as that can, but is not there for the next one to go on with.
// ErrBusy when another caller has it open. ctx also bounds the waiting of WriteAt
// for room.
func (s *Store) OpenPartialFrom(ctx context.Context, d digest.Digest, source string) (*Partial, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return nil, err
	}
	defer s.digests.unlock(e)
	p := &Partial{
		s: s, ctx: ctx, d: d, source: source, filed: -1, size: -1,
		growing: make(chan struct{}, 1), room: allotment{s: s, partial: true, fill: true},
	}
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
	if p.beside != "" {
		p.row = PartialRow{Digest: p.d, Size: -1}
		return p.openFile(ctx, p.beside)
	}
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
	if err := p.openFile(ctx, p.d.String()); err != nil {
		return err
	}
	if !reaches(p.file, p.row.Have) {
		p.s.log.WarnContext(ctx, "partial blob is shorter than its row says, begun anew", "digest", p.d)
		if err := p.s.dropPartialRow(ctx, p.d); err != nil {
			return errors.Join(err, p.file.Close())
		}
		p.row.Have, p.filed = nil, -1
	}
	p.written, p.there = slices.Clone(p.row.Have), slices.Clone(p.row.Have)
	p.room.adopt(max(p.filed, p.s.space.unpark(p.d))) // what was written and not filed is in the file, too
	return nil
}

func (p *Partial) openFile(ctx context.Context, key string) error {
	return p.s.unlessFullLocked(ctx, step, func() (err error) {
		p.file, err = p.s.blobs.OpenPartial(ctx, key)
		return err
	})
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
	for _, p := range s.partials.besides(e.d) {
		n, perr := p.removeLocked(ctx, partialPurged)
		if freed += n; perr != nil {
			return freed, perr
		}
	}
	if p := s.partials.get(e.d); p != nil {
		n, err := p.removeLocked(ctx, partialPurged)
		return freed + n, err
	}
	row, err := s.partialRow(ctx, e.d)
	if errors.Is(err, ErrNotFound) {
		return freed, nil
	}
	if err != nil {
		return freed, err
	}
	if err := s.dropPartialRow(ctx, e.d); err != nil {
		return freed, err
	}
	if p := s.digests.pendingOf(e.d); p != nil && p.dropPartial {
		return freed, nil // its bytes are the blob's by now
	}
	return freed + oci.Extents(row.Have).Bytes(), s.removePartialFile(ctx, e.d)
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
