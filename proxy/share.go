package proxy

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"go.opentelemetry.io/otel/trace"

	"github.com/sociable/sociable/internal/oci"
)

// share runs one call a key at a time for everybody who asks meanwhile. The
// call has a life of its own: a caller who leaves takes nothing from the
// others. Of the first caller's context nothing travels but its trace.
type share[T any] struct {
	life context.Context // the owner's: ends every call
	work *workers
	own  atomic.Int64 // calls of those who were not to have another's refusal
	mu   sync.Mutex
	now  map[string]*call[T]
}

type call[T any] struct {
	began time.Time
	done  chan struct{}
	got   T
	err   error
}

// errLate says that a call goes on, but was not waited for any longer.
var errLate = errors.New("no answer in time")

func newShare[T any](life context.Context, work *workers) *share[T] {
	return &share[T]{life: life, work: work, now: map[string]*call[T]{}}
}

// do waits for the call as long as ctx lasts.
func (s *share[T]) do(ctx context.Context, key string, fn func(context.Context) (T, error)) (T, error) {
	c, mine := s.join(ctx, key, fn)
	got, err := s.wait(ctx, c)
	if !mine && refusesCaller(err) {
		c, _ = s.join(ctx, s.ownKey(key), fn)
		return s.wait(ctx, c)
	}
	return got, err
}

// refusesCaller reports that an upstream refused a caller in whose own name it was
// asked, which says nothing about anybody else.
func refusesCaller(err error) bool {
	e, ok := errors.AsType[*oci.Error](err)
	return ok && e.Code == errcode.ErrorCodeUnauthorized
}

// ownKey is one that nobody else has.
func (s *share[T]) ownKey(key string) string {
	return key + " " + strconv.FormatInt(s.own.Add(1), 10)
}

// within waits until the call is limit old, and then gives errLate: whoever
// comes while a call is late is spared the wait. The call goes on.
func (s *share[T]) within(ctx context.Context, limit time.Duration, key string, fn func(context.Context) (T, error)) (T, error) {
	c, mine := s.join(ctx, key, fn)
	wait := func() (T, error) {
		ctx, cancel := context.WithDeadlineCause(ctx, c.began.Add(limit), errLate)
		defer cancel()
		return s.wait(ctx, c)
	}
	got, err := wait()
	if !mine && refusesCaller(err) {
		c, _ = s.join(ctx, s.ownKey(key), fn)
		return wait()
	}
	return got, err
}

// join gives the call that runs for key, after starting it where none does. Whose
// trace ctx belongs to, if any, has what it asks of upstreams. mine says that it was
// started.
func (s *share[T]) join(ctx context.Context, key string, fn func(context.Context) (T, error)) (c *call[T], mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c = s.now[key]
	if mine = c == nil; mine {
		c = &call[T]{began: time.Now(), done: make(chan struct{})}
		s.now[key] = c
		started := s.work.start(func() {
			defer close(c.done)
			c.got, c.err = fn(trace.ContextWithSpanContext(s.life, trace.SpanContextFromContext(ctx)))
			s.mu.Lock()
			delete(s.now, key)
			s.mu.Unlock()
		})
		if !started {
			delete(s.now, key)
			c.err = errShutdown
			close(c.done)
		}
	}
	return c, mine
}

func (s *share[T]) wait(ctx context.Context, c *call[T]) (T, error) {
	select {
	case <-c.done:
		return c.got, c.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
