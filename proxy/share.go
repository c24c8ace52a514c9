package proxy

import (
	"context"
	"sync"
)

// share runs one call a key at a time for everybody who asks meanwhile. The
// call has a life of its own: a caller who leaves takes nothing from the
// others. Values of the first caller's context do not travel.
type share[T any] struct {
	life context.Context // the owner's: ends every call
	work *sync.WaitGroup
	mu   sync.Mutex
	now  map[string]*call[T]
}

type call[T any] struct {
	done chan struct{}
	got  T
	err  error
}

func newShare[T any](life context.Context, work *sync.WaitGroup) *share[T] {
	return &share[T]{life: life, work: work, now: map[string]*call[T]{}}
}

func (s *share[T]) do(ctx context.Context, key string, fn func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	c := s.now[key]
	if c == nil {
		c = &call[T]{done: make(chan struct{})}
		s.now[key] = c
		s.work.Go(func() {
			defer close(c.done)
			c.got, c.err = fn(s.life)
			s.mu.Lock()
			delete(s.now, key)
			s.mu.Unlock()
		})
	}
	s.mu.Unlock()
	select {
	case <-c.done:
		return c.got, c.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
