package storage

import (
	"context"
	"fmt"
)

// comingOnce is how much is on its way that was not read again, as far as is known:
// in open partials, and pending without a row.
func (s *Store) comingOnce() int64 { return s.space.coming() + s.digests.pendingOnce() }

// arrive counts n more bytes as promised to an open partial.
func (a *space) arrive(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arriving += n
}

func (a *space) coming() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.arriving
}

// pendingOnce is how much is pending that has no row yet and was not read again.
func (ds *digests) pendingOnce() (n int64) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, e := range ds.m {
		p := e.pending
		if p != nil && !p.rowed && evictable(p.row.Kind) && !proven(p.row.Created, p.row.Accessed) {
			n += p.row.Size
		}
	}
	return n
}

// victims are what is to go so that need bytes come free, which is less where pins
// keep what room was to be made ahead of. The caller has s.evicting.
//
// Before what was read again goes in place of what has just come and is not filed
// yet, that is filed, so that it can go: hot content does not pay for the time that
// a sync takes.
func (s *Store) victims(ctx context.Context, need int64) ([]victim, int64, error) {
	for filed := false; ; filed = true {
		found, err := s.candidates(ctx, need)
		if err != nil {
			return nil, 0, fmt.Errorf("look for what to evict: %w", err)
		}
		s.space.setHeld(found.held)
		if s.aheadNow { // what pins keep, which is known now, is not to have room made for it
			now, err := s.aheadNeed(ctx)
			if err != nil {
				return nil, 0, err
			}
			need = min(need, now)
		}
		vs, instead := found.choose(need)
		if filed || !instead || s.digests.pendingOnce() == 0 {
			return vs, need, nil
		}
		if _, err := s.commitPending(ctx); err != nil {
			return vs, need, nil // the committer tells of it; room is made all the same
		}
	}
}
