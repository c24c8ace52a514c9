package proxy

import "sync"

// workers owns the goroutines that outlive a request. After end none starts, so
// that whoever waits for them waits for all.
type workers struct {
	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

// start runs fn in a goroutine; false when it is too late.
func (w *workers) start(fn func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	w.wg.Go(fn)
	return true
}

// end refuses new work and waits for what there is.
func (w *workers) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.wg.Wait()
}
