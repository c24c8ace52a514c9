package storage

import "context"

// Sweep is what Run does once, after its grace period, without the wait.
func (s *Store) Sweep(ctx context.Context) error {
	found, err := s.orphans(ctx)
	if err != nil {
		return err
	}
	return s.sweepAll(ctx, found)
}

// Intervals of the background work, for tests in a bubble of fake time.
const (
	AccessEvery = accessEvery
	SweepGrace  = sweepGrace
	EvictEvery  = evictEvery
	CommitRetry = commitRetry
)
