package events

import (
	"context"
	"sync"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// passingEvery is how long pulls are gathered for one write.
	passingEvery = time.Second
	// maxPassing bounds what is gathered in memory; manyPassing is filed sooner.
	maxPassing, manyPassing = 8192, 1024
)

// passing are events that are not worth a write each.
type passing struct {
	wake chan struct{} // cap 1

	mu      sync.Mutex
	list    []noted
	dropped int
}

type noted struct {
	e  oci.Event
	at time.Time
}

func newPassing() passing { return passing{wake: make(chan struct{}, 1)} }

// Note remembers e, of which there may be many, and has it filed soon. It never
// waits; what finds no room is dropped, counted and logged.
func (x *Events) Note(e oci.Event) {
	if !x.Wants(e.Kind) {
		return
	}
	p := &x.passing
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) >= maxPassing {
		p.dropped++
		return
	}
	p.list = append(p.list, noted{e, x.now().UTC()})
	if len(p.list) >= manyPassing {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// FileMany is File of an event of which there may be many: an endpoint for which
// Options.MaxQueue wait is not told of it, which is counted and logged.
func (x *Events) FileMany(tx storage.EventTx, e oci.Event) error {
	if x == nil {
		return nil
	}
	return x.file(tx, &e, x.now().UTC(), func(to *endpoint) bool {
		if to.queued.Load() >= int64(x.opt.MaxQueue) {
			to.over.Add(1)
			return false
		}
		to.queued.Add(1) // as in File
		to.wakeUp()
		return true
	})
}

func (p *passing) take() (list []noted, dropped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, dropped = p.list, p.dropped
	p.list, p.dropped = nil, 0
	return list, dropped
}

// filePassing files what was noted until ctx ends, and then what is left.
func (x *Events) filePassing(ctx context.Context) {
	tick := time.NewTicker(passingEvery)
	defer tick.Stop()
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-x.passing.wake:
		case <-ctx.Done():
		}
		x.flush(whole)
	}
}

// flush writes what was noted, as far as the queues have room for it.
func (x *Events) flush(ctx context.Context) {
	list, dropped := x.passing.take()
	if dropped > 0 {
		for _, e := range x.endpoints {
			x.m.dropped.WithLabelValues(e.Name).Add(float64(dropped))
		}
		x.log.WarnContext(ctx, "events dropped: more came than could be filed", "events", dropped)
	}
	for _, e := range x.endpoints {
		if n := e.over.Swap(0); n > 0 {
			x.tooMany(ctx, e, int(n))
		}
	}
	if len(list) == 0 {
		return
	}
	added, over := make([]int64, len(x.endpoints)), make([]int, len(x.endpoints))
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		for i := range x.endpoints { // fn may run more than once
			added[i], over[i] = 0, 0
		}
		for i := range list {
			err := x.file(tx, &list[i].e, list[i].at, func(e *endpoint) bool {
				if e.queued.Load()+added[e.index] >= int64(x.opt.MaxQueue) {
					over[e.index]++
					return false
				}
				added[e.index]++
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		x.log.ErrorContext(ctx, "events lost: they could not be filed", "events", len(list), "err", err)
	}
	for i, e := range x.endpoints {
		switch n := over[i]; {
		case err != nil:
			x.m.dropped.WithLabelValues(e.Name).Add(float64(len(list)))
			continue
		case n > 0:
			x.tooMany(ctx, e, n)
		}
		if added[i] > 0 {
			e.queued.Add(added[i])
			e.wakeUp()
		}
	}
}

// tooMany counts and logs that e is not told of n events.
func (x *Events) tooMany(ctx context.Context, e *endpoint, n int) {
	x.m.dropped.WithLabelValues(e.Name).Add(float64(n))
	x.log.WarnContext(ctx, "events dropped: too many wait for their endpoint", "endpoint", e.Name, "events", n, "queued", e.queued.Load())
}
