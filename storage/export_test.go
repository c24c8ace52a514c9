package storage

import "context"

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
