package series

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
)

const (
	// keepEvery is how often what was measured is stored while there is something
	// to tell, keepIdle while there is not.
	keepEvery = time.Minute
	keepIdle  = 15 * time.Minute
	// rowName is the row in which it is.
	rowName = "series"
)

// Rows is as much of a store as a Recorder takes.
type Rows interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
	Update(ctx context.Context, fn func(storage.Tx) error) error
}

// Options are what a Recorder is made of; Gatherer and Rows are required.
type Options struct {
	Gatherer prometheus.Gatherer
	Rows     Rows
	Logger   *slog.Logger     // nil discards
	Now      func() time.Time // nil: time.Now
}

// Recorder measures. It is safe for concurrent use.
type Recorder struct {
	opt  Options
	mu   sync.Mutex
	last reading
	ring map[Range]*ring
}

// New makes a Recorder. Counters of the Gatherer count from now.
func New(o Options) *Recorder {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Recorder{opt: o, ring: map[Range]*ring{}}
	for _, x := range Ranges {
		r.ring[x] = newRing(x)
	}
	return r
}

// Series gives what was measured up to this moment.
func (r *Recorder) Series(x Range) *Series {
	r.Measure()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &Series{Range: x, Step: x.Step(), ring: *r.ring[x]}
	s.End = time.Unix((s.ring.last+1)*s.ring.step, 0).UTC()
	return s
}

// Measure adds what happened since the last time, and tells whether anything did.
// What can't be had is left for the next time.
func (r *Recorder) Measure() (moved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := read(r.opt.Gatherer)
	if err != nil {
		r.opt.Logger.Debug("not all metrics could be read", "err", err)
	}
	delta := now
	for n := range firstGauge {
		delta[n] = max(0, now[n]-r.last[n])
		moved = moved || delta[n] > 0
	}
	r.last = now
	at := r.opt.Now()
	for _, x := range r.ring {
		x.add(at, &delta)
	}
	return moved
}

// Run measures until ctx ends, and keeps what it measured.
func (r *Recorder) Run(ctx context.Context) error {
	if err := r.load(ctx); err != nil && ctx.Err() == nil {
		r.opt.Logger.WarnContext(ctx, "what was measured earlier is lost", "err", err)
	}
	tick := time.NewTicker(Hour.Step())
	defer tick.Stop()
	kept, moved := r.opt.Now(), false
	for {
		select {
		case <-tick.C:
			moved = r.Measure() || moved
			age := r.opt.Now().Sub(kept)
			if age < keepEvery || !moved && age < keepIdle {
				continue
			}
			r.keep(ctx)
			kept, moved = r.opt.Now(), false
		case <-ctx.Done():
			r.Measure()
			r.keep(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// rings gives them in the order in which they are stored.
func (r *Recorder) rings() (all []*ring) {
	for _, x := range Ranges {
		all = append(all, r.ring[x])
	}
	return all
}

func (r *Recorder) load(ctx context.Context) error {
	var raw []byte
	err := r.opt.Rows.View(ctx, func(tx storage.Tx) (err error) {
		raw, err = tx.Samples(rowName)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return decode(raw, r.rings())
}

// Keep stores what was measured so far.
func (r *Recorder) Keep(ctx context.Context) error {
	r.mu.Lock()
	raw, err := encode(r.rings())
	r.mu.Unlock()
	if err == nil {
		err = r.opt.Rows.Update(ctx, func(tx storage.Tx) error { return tx.PutSamples(rowName, raw) })
	}
	if err != nil {
		return fmt.Errorf("store what was measured: %w", err)
	}
	return nil
}

func (r *Recorder) keep(ctx context.Context) {
	if err := r.Keep(ctx); err != nil {
		r.opt.Logger.WarnContext(ctx, "what was measured is not stored", "err", err)
	}
}
