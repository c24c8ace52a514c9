package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Store is what the queues need of the store.
type Store interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
	Update(ctx context.Context, fn func(storage.Tx) error) error
}

// Endpoint is who is told.
type Endpoint struct {
	Name    string // of its queue and in metrics; unique
	URL     string
	Headers http.Header
	Timeout time.Duration // of one request; 0: 5 s
	// Threshold is how many failures in a row are repeated at once, nearly; then
	// Backoff passes before each attempt, twice as long after each failure up to
	// MaxBackoff. 0: 10, 1 s and 1 min.
	Threshold           int
	Backoff, MaxBackoff time.Duration
	// RefusedFor is how long an event is repeated that the endpoint answers with 400,
	// 413 or 422, before it is set aside; 0: 5 min.
	RefusedFor       time.Duration
	IgnoreKinds      []oci.EventKind
	IgnoreMediaTypes []string // of an event's target
	MediaType        string   // of the envelope; "": MediaTypeV1
}

// Options are what New needs. Store is required.
type Options struct {
	Store     Store
	Endpoints []Endpoint
	// MaxQueue is how many events may wait for an endpoint before pulls and
	// evictions are dropped; 0: 100,000.
	MaxQueue   int
	Addr       string                // of this server, for receivers
	Client     *http.Client          // nil: one that follows no redirect
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is measured
	Now        func() time.Time      // nil: time.Now
}

// Events files and sends notifications. It is safe for concurrent use; a nil
// *Events does nothing.
type Events struct {
	opt       Options
	store     Store
	log       *slog.Logger
	now       func() time.Time
	m         *metrics
	source    Source
	endpoints []*endpoint
	passing   passing
}

// New makes an Events. Run sends what is filed.
func New(o Options) *Events {
	if o.MaxQueue <= 0 {
		o.MaxQueue = 100_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil {
		o.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	x := &Events{
		opt: o, store: o.Store, log: o.Logger, now: o.Now, m: newMetrics(o.Registerer),
		source: Source{Addr: o.Addr, InstanceID: newID()}, passing: newPassing(),
	}
	for _, e := range o.Endpoints {
		x.endpoints = append(x.endpoints, newEndpoint(x, e))
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(queues{x})
	}
	return x
}

// File adds e to the queues of tx: it is told of if and only if what tx writes
// is kept.
func (x *Events) File(tx storage.EventTx, e oci.Event) error {
	if x == nil {
		return nil
	}
	return x.file(tx, &e, x.now().UTC(), func(to *endpoint) bool {
		to.queued.Add(1) // should tx fail, the sender corrects it once it finds nothing
		to.wakeUp()
		return true
	})
}

// file adds e to the queues of those who want it and of whom take says so.
func (x *Events) file(tx storage.EventTx, e *oci.Event, at time.Time, take func(*endpoint) bool) error {
	var body []byte
	for _, to := range x.endpoints {
		if to.ignores(e) || !take(to) {
			continue
		}
		if body == nil {
			var err error
			if body, err = encode(e, at, x.source); err != nil {
				return err
			}
		}
		if err := tx.AddEvent(to.Name, body); err != nil {
			return fmt.Errorf("file event for %s: %w", to.Name, err)
		}
	}
	return nil
}

// Wants reports whether anybody wants to be told of such an event.
func (x *Events) Wants(k oci.EventKind) bool {
	return x != nil && slices.ContainsFunc(x.endpoints, func(e *endpoint) bool { return !slices.Contains(e.IgnoreKinds, k) })
}

// Run sends what is filed until ctx ends, and returns when all has stopped;
// what was not sent is sent by the next Run. The makers of events have stopped
// before ctx ends. An error is one of the rows, at the start.
func (x *Events) Run(ctx context.Context) error {
	if x == nil {
		<-ctx.Done()
		return nil
	}
	if err := x.resume(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was stopped before it began
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { x.filePassing(ctx); return nil })
	for _, e := range x.endpoints {
		g.Go(func() error { e.run(ctx); return nil })
	}
	return g.Wait()
}

// resume counts what waits, and drops the queues of endpoints that are no
// longer configured: nobody would ever take them.
func (x *Events) resume(ctx context.Context) error {
	waiting := map[string]int64{}
	err := x.store.View(ctx, func(tx storage.Tx) error {
		clear(waiting)
		return tx.EventEndpoints(func(name string) error {
			waiting[name] = 0
			return tx.Events(name, 0, func(storage.EventRow) error { waiting[name]++; return ctx.Err() })
		})
	})
	if err != nil {
		return fmt.Errorf("count events: %w", err)
	}
	for _, e := range x.endpoints {
		aside := storage.SetAside(e.Name)
		e.queued.Store(waiting[e.Name])
		e.aside.Store(waiting[aside])
		delete(waiting, e.Name)
		delete(waiting, aside)
	}
	for name, n := range waiting {
		err = errors.Join(err, x.store.Update(ctx, func(tx storage.Tx) error { return tx.DeleteEvents(name, lastNumber) }))
		x.log.WarnContext(ctx, "events dropped: their endpoint is not configured any more", "endpoint", name, "events", n)
	}
	return err
}
