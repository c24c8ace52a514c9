package upstream

import (
	"context"
	"slices"
	"sync"
)

// slots bound what happens at once. Those who wait come in their order. The bound
// can be changed: where more are taken than it allows then, the next ones wait
// until enough were given back.
type slots struct {
	mu    sync.Mutex
	most  int
	taken int
	queue []chan struct{} // closed when its owner has a slot
}

func newSlots(most int) *slots { return &slots{most: most} }

// take waits for a slot, which free gives back.
func (s *slots) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	if s.taken < s.most && len(s.queue) == 0 {
		s.taken++
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.queue, turn); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	} else { // it came at the same time
		s.taken--
		s.admit()
	}
	return context.Cause(ctx)
}

func (s *slots) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	s.admit()
}

func (s *slots) set(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = most
	s.admit()
}

// admit gives what is free to those who wait.
func (s *slots) admit() {
	for s.taken < s.most && len(s.queue) > 0 {
		close(s.queue[0])
		s.queue = s.queue[1:]
		s.taken++
	}
}

// inUse is how many are taken.
func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
