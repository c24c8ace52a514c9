package storage

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
