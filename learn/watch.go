package learn

import (
	"sync"
	"time"
)

// maxWatched bounds the clients that are watched at once.
const maxWatched = 2 * maxStarts

// watch knows which clients may be about to start something, so that the reads of
// all others cost next to nothing.
type watch struct {
	life time.Duration // of a start, at most

	mu    sync.RWMutex
	until map[client]time.Time
}

func newWatch(window time.Duration) *watch {
	return &watch{life: max(window, background) + time.Second, until: map[client]time.Time{}}
}

// begin has c be watched; false: more can't be.
func (w *watch) begin(c client, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.until[c]; !ok && len(w.until) >= maxWatched {
		return false
	}
	w.until[c] = now.Add(w.life)
	return true
}

func (w *watch) watches(c client, now time.Time) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return now.Before(w.until[c])
}

// sweep forgets clients that did nothing for so long.
func (w *watch) sweep(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, t := range w.until {
		if !now.Before(t) {
			delete(w.until, c)
		}
	}
}
