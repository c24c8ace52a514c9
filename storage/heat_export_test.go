package storage

import "context"

// MaxHeat bounds what HeatNoted gives.
const MaxHeat = maxHeat

// HeatNoted is how many ranges are remembered and not filed.
func (s *Store) HeatNoted() (n int) {
	s.heat.mu.Lock()
	defer s.heat.mu.Unlock()
	for _, x := range s.heat.by {
		n += len(*x)
	}
	return n
}

// Victims is how many blobs would be evicted for need bytes.
func (s *Store) Victims(ctx context.Context, need int64) (int, error) {
	found, err := s.candidates(ctx, need)
	return len(found.choose(need, false)), err
}
