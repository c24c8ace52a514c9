package upstream

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// shared runs one call a key for all who want its result at the same time.
// Each caller may leave on its own context; the call is cancelled when the
// last has left, who waits for it to end. The first caller's context values
// travel, its cancellation doesn't.
type shared[T any] struct {
	mu    sync.Mutex
	calls map[string]*sharedCall[T]
}

type sharedCall[T any] struct {
	waiters int // guarded by shared.mu
	cancel  context.CancelFunc
	done    chan struct{} // closed once val and err are set
	val     T
	err     error
}

// do joins or starts the call under key.
func (s *shared[T]) do(ctx context.Context, key string, fn func(context.Context) (T, error)) (T, error) {
	c := s.join(ctx, key, fn)
	select {
	case <-c.done:
		return c.val, c.err
	case <-ctx.Done():
		s.leave(key, c)
		var zero T
		return zero, context.Cause(ctx)
	}
}

func (s *shared[T]) join(ctx context.Context, key string, fn func(context.Context) (T, error)) *sharedCall[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[key]
	if c == nil {
		var cctx context.Context
		c = &sharedCall[T]{done: make(chan struct{})}
		cctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if s.calls == nil {
			s.calls = map[string]*sharedCall[T]{}
		}
		s.calls[key] = c
		go func() {
			defer close(c.done)
			defer c.cancel()
			c.val, c.err = recovered(cctx, fn)
			s.mu.Lock()
			s.forget(key, c)
			s.mu.Unlock()
		}()
	}
	c.waiters++
	return c
}

// recovered calls fn and makes a panic an error: in a goroutine of its own no
// handler's recovery reaches it.
func recovered[T any](ctx context.Context, fn func(context.Context) (T, error)) (val T, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("panic: %v\n%s", fault, debug.Stack())
		}
	}()
	return fn(ctx)
}

func (s *shared[T]) leave(key string, c *sharedCall[T]) {
	s.mu.Lock()
	c.waiters--
	last := c.waiters == 0
	if last {
		s.forget(key, c) // whoever comes now must not join what is being cancelled
	}
	s.mu.Unlock()
	if last {
		c.cancel()
		<-c.done
	}
}

func (s *shared[T]) forget(key string, c *sharedCall[T]) {
	if s.calls[key] == c {
		delete(s.calls, key)
	}
}
