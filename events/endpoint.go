package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// Of one envelope, at most.
	maxEvents, maxEnvelopeBytes = 50, 1 << 20
	// settleTime is how long after it was told of an event the sender looks for
	// it: its transaction ends in that time, mostly.
	settleTime = 10 * time.Millisecond
	// lookEvery is how soon an event is found that was filed later than that.
	lookEvery = time.Second
	// again is the pause before an attempt below the threshold.
	again = 100 * time.Millisecond
	// lastNumber is beyond every event's.
	lastNumber = math.MaxUint64
)

// endpoint is one receiver and its queue.
type endpoint struct {
	Endpoint
	x      *Events
	index  int
	queued atomic.Int64 // about: updates may run twice, or fail
	aside  atomic.Int64 // that were set aside; about
	over   atomic.Int64 // that found no room in it, and are not counted yet; about
	wake   chan struct{}

	sent  uint64  // number of the last event that was taken, or set aside
	fails int     // in a row
	told  trouble // that was logged of these
	most  int     // how many events the next envelope has, at most
	no    refusal // of the oldest event
}

func newEndpoint(x *Events, o Endpoint) *endpoint {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Threshold <= 0 {
		o.Threshold = 10
	}
	if o.Backoff <= 0 {
		o.Backoff = time.Second
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = time.Minute
	}
	if o.MediaType == "" {
		o.MediaType = MediaTypeV1
	}
	if o.RefusedFor <= 0 {
		o.RefusedFor = 5 * time.Minute
	}
	e := &endpoint{Endpoint: o, x: x, index: len(x.endpoints), wake: make(chan struct{}, 1), most: maxEvents}
	x.m.endpoint(e)
	return e
}

func (e *endpoint) ignores(ev *oci.Event) bool {
	return slices.Contains(e.IgnoreKinds, ev.Kind) || slices.Contains(e.IgnoreMediaTypes, ev.Target.MediaType)
}

func (e *endpoint) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run sends what is in the queue, oldest first, until ctx ends.
func (e *endpoint) run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		rows, err := e.next(ctx)
		if err == nil && len(rows) > 0 {
			err = e.send(ctx, rows)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			e.x.m.failed(e)
			if e.fewer(rows, err) {
				continue
			}
			if e.failed(ctx, rows, err); !e.refuses(ctx, rows, err) {
				pause(ctx, e.wait())
			}
		case len(rows) == 0:
			select {
			case <-e.wake:
				pause(ctx, settleTime)
			case <-look.C:
			case <-ctx.Done():
			}
		}
	}
}

// next reads the oldest events, as many as go into an envelope.
func (e *endpoint) next(ctx context.Context) (rows []storage.EventRow, err error) {
	enough := errors.New("enough")
	err = e.x.store.View(ctx, func(tx storage.Tx) error {
		rows = rows[:0]
		size := 0
		if err := e.countAside(tx); err != nil {
			return err
		}
		return tx.Events(e.Name, e.sent, func(row storage.EventRow) error {
			if size += len(row.Body); len(rows) == e.most || len(rows) > 0 && size > maxEnvelopeBytes {
				return enough
			}
			rows = append(rows, row)
			return nil
		})
	})
	if errors.Is(err, enough) {
		err = nil
	}
	if err == nil && len(rows) == 0 {
		e.queued.Store(0) // whatever was counted twice
	}
	return rows, err
}

// send posts rows, and takes them off the queue once they were taken. When that
// fails they are not sent again by this process.
func (e *endpoint) send(ctx context.Context, rows []storage.EventRow) error {
	if err := e.post(ctx, rows); err != nil {
		return err
	}
	if e.fails > e.Threshold {
		e.x.log.InfoContext(ctx, "endpoint takes events again", "endpoint", e.Name, "queued", e.queued.Load())
	}
	e.fails, e.told = 0, ""
	e.took()
	e.sent = rows[len(rows)-1].Number
	e.x.m.sent(e, len(rows))
	e.queued.Add(-int64(len(rows)))
	if err := e.x.store.Update(ctx, func(tx storage.Tx) error { return tx.DeleteEvents(e.Name, e.sent) }); err != nil && ctx.Err() == nil {
		e.x.log.WarnContext(ctx, "events were sent, and may be again after a restart", "endpoint", e.Name, "err", err)
	}
	return nil
}

// post sends one envelope; nil when it was taken.
func (e *endpoint) post(ctx context.Context, rows []storage.EventRow) error {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	var body bytes.Buffer
	body.WriteString(`{"events":[`)
	for i, row := range rows {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(row.Body)
	}
	body.WriteString(`]}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, &body)
	if err != nil {
		return fmt.Errorf("post events: %w", err)
	}
	for k, vs := range e.Headers {
		req.Header[k] = slices.Clone(vs)
	}
	req.Header.Set("Content-Type", e.MediaType)
	resp, err := e.x.opt.Client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // an address may be a secret
		}
		return fmt.Errorf("post events: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("post events: %w", &answered{resp.StatusCode})
	}
	return nil
}

// failed notes and logs that rows, if it is about any, were not taken.
func (e *endpoint) failed(ctx context.Context, rows []storage.EventRow, err error) {
	e.fails++
	args := []any{"endpoint", e.Name, "queued", e.queued.Load(), "failures", e.fails, "err", err}
	if len(rows) > 0 {
		args = append(args, about(rows[0].Body)...)
	}
	if why := troubleOf(err); e.fails >= e.Threshold && why != e.told {
		e.told = why
		e.x.log.WarnContext(ctx, string(why), args...) //nolint:sloglint // one of three constants
	} else {
		e.x.log.DebugContext(ctx, "event not sent", args...)
	}
}

// wait is the pause before the next attempt: half of it and up to as much again
// by chance, so that many servers do not come at once.
func (e *endpoint) wait() time.Duration {
	d := again
	if over := e.fails - e.Threshold; over >= 0 {
		d = e.Backoff
		for ; over > 0 && d < e.MaxBackoff; over-- {
			d *= 2
		}
		d = min(d, max(e.MaxBackoff, e.Backoff))
	}
	return d/2 + rand.N(d)
}

// pause waits for d, or for ctx to end.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
