package proxy

import (
	"context"
	"slices"
	"time"
)

const (
	// lingerFor is how long a fill that nobody uses is kept open.
	lingerFor = time.Second
	// lingerMost is how long one is that is used again and again before that is over:
	// what it has is not filed meanwhile, and cannot be evicted.
	lingerMost = time.Minute
)

// idling is when a fill was last of use.
type idling struct {
	lingering bool          // to be put away when it has been idle for a moment, see linger
	idleAt    time.Time     // when it was last given back
	idles     int           // how often it was
	due       time.Time     // see lingerMost
	over      chan struct{} // closed when lingering is of no use any more
}

// idleLocked reports, once, that the fill is to be put away now. One that may
// be wanted again soon, as ranges come one after another, lingers first: to
// file it and find it again costs more than all of them.
func (f *fill) idleLocked() bool {
	if !f.unusedLocked() {
		return false
	}
	f.idleAt = time.Now()
	f.idles++
	wanted := f.wantedLocked()
	if f.lingering {
		if !wanted && f.over != nil { // it came to be whole, say: who asks now is to look where it is by now
			close(f.over)
			f.over = nil
		}
		return false
	}
	if wanted {
		over := make(chan struct{})
		f.over = over
		f.lingering = f.p.work.start(func() { f.linger(over) })
	}
	f.closing = !f.lingering
	return f.closing
}

func (f *fill) unusedLocked() bool {
	return f.refs+f.taps == 0 && f.pump == nil && len(f.runs) == 0 && !f.closing
}

// wantedLocked reports whether a fill that is unused may be of use again.
func (f *fill) wantedLocked() bool {
	return !f.verified && !f.detached && f.err == nil && len(f.have) > 0 && f.p.life.Err() == nil
}

// linger puts the fill away when nobody has used it for a moment, or once over is
// closed. While it is in use this ends: then it is the last user's turn to begin it
// anew. It is filed before it is closed, so that who comes at that moment need not wait
// for that.
func (f *fill) linger(over <-chan struct{}) {
	filed := 0 // as it was given back for the so manyth time
	for wait := lingerFor; ; {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-over:
		case <-f.p.life.Done():
		}
		t.Stop()
		f.mu.Lock()
		if !f.unusedLocked() {
			f.lingering = false
			f.mu.Unlock()
			return
		}
		idles, due := f.idles, !time.Now().Before(f.due)
		wait = lingerFor - time.Since(f.idleAt)
		if filed == idles || filed > 0 && due || !f.wantedLocked() {
			f.lingering, f.closing = false, true
			f.mu.Unlock()
			if filed != idles { // it was used as it was filed
				f.file()
			}
			f.shut()
			return
		}
		f.mu.Unlock()
		if wait <= 0 || due {
			f.file()
			filed, wait = idles, 0
		}
	}
}

// putAway files what is here of the blob and forgets the fill.
func (f *fill) putAway() {
	f.file()
	f.shut()
}

// file notes in the rows what is here of the blob, for the next fill to go on from.
func (f *fill) file() {
	f.mu.Lock()
	size, have, keep := f.size, slices.Clone(f.have), !f.verified && f.err == nil && len(f.have) > 0
	f.mu.Unlock()
	if !keep {
		return
	}
	if err := f.part.Checkpoint(context.WithoutCancel(f.p.life), size, have); err != nil {
		f.p.log.Warn("partial blob not filed", "digest", f.d, "err", err)
	}
}

// shut closes the fill's file, and forgets the fill.
func (f *fill) shut() {
	defer close(f.closed)
	f.mu.Lock()
	dead := f.err != nil // discarded and closed, or never opened
	f.mu.Unlock()
	if !dead {
		if err := f.part.Close(); err != nil {
			f.p.log.Warn("partial blob not closed", "digest", f.d, "err", err)
		}
	}
	f.forget()
}
