package storage

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Sweep is what Run does once, after its grace period, without the wait.
func (s *Store) Sweep(ctx context.Context) error { return s.SweepAfter(ctx, func() {}) }

// SweepAfter is Sweep with something happening where the wait would be.
func (s *Store) SweepAfter(ctx context.Context, between func()) error {
	if err := s.count(ctx); err != nil {
		return err
	}
	found, err := s.orphans(ctx)
	if err != nil {
		return err
	}
	between()
	return s.sweepAll(ctx, found.orphans)
}

// Intervals of the background work, for tests in a bubble of fake time.
const (
	AccessEvery = accessEvery
	SweepGrace  = sweepGrace
	CommitRetry = commitRetry
)

// Locked reports whether somebody has d's lock.
func (s *Store) Locked(d digest.Digest) bool {
	s.digests.mu.Lock()
	defer s.digests.mu.Unlock()
	e := s.digests.m[d]
	return e != nil && len(e.lock) > 0
}

// Bad reports whether d's bytes were found to be others, so that they are not served.
func (s *Store) Bad(d digest.Digest) bool { return s.digests.isBad(d) }
