package storage

// comingOnce is how much is on its way that was not read again, as far as is known:
// in open partials other than by, and pending without a row.
func (s *Store) comingOnce(by *Partial) int64 {
	n := s.space.coming() + s.digests.pendingOnce()
	if by != nil {
		by.mu.Lock()
		n -= by.room.size
		by.mu.Unlock()
	}
	return max(0, n)
}

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
