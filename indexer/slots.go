package indexer

import (
	"io"
	"sync"
	"time"
)

// tapIdle is how long the build of an upload keeps its slot from others while
// nothing comes of the upload.
const tapIdle = time.Second

// slotted is what runs in a slot.
type slotted struct {
	of    *pushed // nil: of a fetch
	build func()
}

// slot runs build in a slot of its own: p's, if not nil. Where all are taken, the
// build of the upload that has stood still for longest gives way, which is indexed
// from the store then, once it is whole. It reports whether build runs, or is about
// to.
func (x *Indexer) slot(running *sync.WaitGroup, p *pushed, build func()) bool {
	first := &slotted{p, build}
	select {
	case x.slots <- struct{}{}:
	default:
		return x.supplant(first)
	}
	running.Go(func() {
		for s := first; s != nil; {
			s = x.inSlot(s)
		}
		<-x.slots
	})
	return true
}

// inSlot runs s, and gives what the slot was promised to meanwhile.
func (x *Indexer) inSlot(s *slotted) (next *slotted) {
	x.m.tapsRunning.Inc()
	defer x.m.tapsRunning.Dec()
	if s.of == nil {
		s.build()
		return nil
	}
	x.mu.Lock()
	x.building[s.of] = struct{}{}
	x.mu.Unlock()
	s.build()
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.building, s.of)
	return s.of.heir
}

// supplant ends the build of the upload that has stood still for longest, if there
// is one, for heir to run in its place.
func (x *Indexer) supplant(heir *slotted) bool {
	latest := x.now().Add(-tapIdle).UnixNano()
	var idlest *pushed
	x.mu.Lock()
	for p := range x.building {
		if since := p.since.Load(); p.heir == nil && since != 0 && since <= latest {
			idlest, latest = p, since
		}
	}
	if idlest != nil {
		idlest.heir = heir
	}
	x.mu.Unlock()
	if idlest == nil {
		return false
	}
	_ = idlest.rc.Close() // its Read returns
	return true
}

// client reads what comes of p's upload, and notes since when it waits for that,
// and how fast p works.
func (x *Indexer) client(p *pushed) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		p.pace.waits(time.Now())
		p.since.Store(x.now().UnixNano())
		defer p.since.Store(0)
		n, err := p.rc.Read(b)
		p.pace.works(time.Now(), n)
		return n, err
	})
}
