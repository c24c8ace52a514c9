package access

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"golang.org/x/sync/singleflight"
)

// asking are the questions to upstreams that are under way. Each is one for all
// who want to know, and outlives those of them that leave. The zero value is
// ready.
type asking struct {
	same singleflight.Group
	open sync.WaitGroup

	mu   sync.Mutex
	over bool
	ends map[*question]struct{}
}

// question can be broken off.
type question struct{ end context.CancelFunc }

var errStopping = errors.New("this server is stopping")

// once asks for all who want the same at the same time. Whoever leaves does not
// wait for the answer, which is for the others, and for who comes later. A panic
// is an error: it would be in a goroutine that no handler's recovery reaches.
func (q *asking) once(ctx context.Context, key string, ask func(context.Context) error) error {
	ch := q.same.DoChan(key, func() (_ any, err error) {
		ctx, done, err := q.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		defer func() {
			if fault := recover(); fault != nil {
				err = fmt.Errorf("ask an upstream about a caller: panic: %v\n%s", fault, debug.Stack())
			}
		}()
		return nil, ask(ctx)
	})
	select {
	case r := <-ch:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin gives the context of a question, which is to be done with; an error once
// no more are asked.
func (q *asking) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return nil, nil, errStopping
	}
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	one := &question{end}
	if q.ends == nil {
		q.ends = map[*question]struct{}{}
	}
	q.ends[one] = struct{}{}
	q.open.Add(1)
	return ctx, func() {
		end()
		q.mu.Lock()
		delete(q.ends, one)
		q.mu.Unlock()
		q.open.Done()
	}, nil
}

// stop breaks off what is asked, has nothing more asked, and waits for the end of
// it.
func (q *asking) stop() {
	q.mu.Lock()
	q.over = true
	for one := range q.ends {
		one.end()
	}
	q.mu.Unlock()
	q.open.Wait()
}
