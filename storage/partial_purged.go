package storage

// OnPurge has fn called once the partial is purged, or at once where it was; maybe
// twice. Until fn returns the digest is locked.
func (p *Partial) OnPurge(fn func()) {
	p.mu.Lock()
	p.purged = fn
	was := p.state == partialPurged
	p.mu.Unlock()
	if was {
		fn()
	}
}

// detach lets go of a partial that was purged: it goes on for those who read it, in a
// file without a name, and never becomes the blob; whoever wants that begins anew.
// Where the file could not be removed it is not written on, since whoever begins
// anew finds it.
func (p *Partial) detach(unnamed bool) {
	p.mu.Lock()
	if !unnamed && p.state == partialPurged {
		p.state = partialGone
	}
	fn := p.purged
	p.mu.Unlock()
	if !unnamed {
		return
	}
	p.s.partials.disclaim(p)
	if fn != nil {
		fn()
	}
}

// writable is nil while bytes are taken: by who was purged, too; p.mu is held.
func (p *Partial) writable() error {
	if p.state == partialPurged {
		return nil
	}
	return p.usable()
}
