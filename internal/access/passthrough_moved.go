package access

import "sync"

// addresses is where upstreams were when they were last asked, by name. The zero
// value is ready.
type addresses struct {
	mu sync.Mutex
	of map[string]string
}

// change takes over now, and gives those that were somewhere else.
func (a *addresses) change(now map[string]string) (moved map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[string]string{}
	}
	moved = map[string]bool{}
	for name, address := range now {
		if was, known := a.of[name]; known && was != address {
			moved[name] = true
		}
		a.of[name] = address
	}
	return moved
}

// moved forgets what upstreams said that are somewhere else now: what was refused
// there, as what was allowed. Callers log in anew.
func (p *passthrough) moved(now map[string]string) {
	moved := p.at.change(now)
	if len(moved) == 0 {
		return
	}
	for _, k := range p.words.Keys() {
		if moved[k.repo.Upstream] {
			p.words.Remove(k)
		}
	}
	for name := range moved {
		p.tells.Delete(name)
	}
	forgetAt(p.sessions, moved)
	forgetAt(p.aways, moved)
	forgetAt(p.proven, moved)
}

func forgetAt(of interface {
	Keys() []sessionOf
	Remove(sessionOf) bool
}, moved map[string]bool) {
	for _, k := range of.Keys() {
		if moved[k.upstream] {
			of.Remove(k)
		}
	}
}
