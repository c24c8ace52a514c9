package storage

// arrive counts n more bytes as promised to an open partial.
func (a *space) arrive(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arriving += n
}

// coming is how much is promised to open partials, which was not read again as far as
// is known.
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
