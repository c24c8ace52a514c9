package storage

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// MayKeep reports whether a blob of size bytes that is not whole here could be, once
// all has gone that may go: as far as can be told without looking for what that is. To
// ask costs nothing that is stored, which to reserve room for it may.
func (s *Store) MayKeep(ctx context.Context, d digest.Digest, size int64) bool {
	if p := s.partials.get(d); p != nil {
		return p.MayKeep(ctx, size)
	}
	return s.mayTake(ctx, size)
}

// MayKeep is Store.MayKeep of the partial's own blob.
func (p *Partial) MayKeep(ctx context.Context, size int64) bool {
	p.mu.Lock()
	n := size - p.room.size
	p.mu.Unlock()
	return p.s.mayTake(ctx, n)
}

// mayTake is false where take would be refused, as far as is known. What can't be
// found out says nothing: take does.
func (s *Store) mayTake(ctx context.Context, n int64) bool {
	if n <= 0 || s.count(ctx) != nil {
		return true
	}
	short, err := s.shortOfFree(ctx, n)
	return err != nil || s.space.mayFit(n, short)
}

// mayFit reports whether n more bytes fit, if so many of them as short are too much
// for the medium now: as it is, or once all is gone that can be evicted and that no pin
// keeps, as the last search for it found.
func (a *space) mayFit(n, short int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n <= a.ceiling()-a.totalLocked() && short == 0 {
		return true
	}
	stays, gain := a.staysLocked()
	return n <= a.ceiling()-stays-a.held && short <= gain-a.held
}
