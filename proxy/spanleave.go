package proxy

import (
	"context"
	"errors"
	"slices"
)

// Where on_disconnect is stop, every client's source of spans is counted in the
// flights that it waits for, or will: what nobody is waiting for any more is not
// fetched. Otherwise nobody is counted, and what was begun goes on.

// spanTransfer is one upstream request for a run of spans.
type spanTransfer struct {
	spans  []wantedSpan
	cancel context.CancelCauseFunc
}

// joinLocked counts s in fl; Proxy.mu is held.
func (s *spanSource) joinLocked(fl *spanFlight) {
	if s.p.opt.StopOnDisconnect {
		fl.waiting++
		s.joined = append(s.joined, fl)
	}
}

// leave takes s out of its flights, and stops those that nobody else waits for.
func (s *spanSource) leave() {
	if len(s.joined) == 0 {
		return
	}
	s.p.mu.Lock()
	var idle []wantedSpan
	for _, fl := range s.joined {
		fl.waiting--
		switch {
		case fl.waiting > 0 || fl.landed:
		case fl.in == nil:
			idle = append(idle, s.p.unwantLocked(fl)...)
		case !slices.ContainsFunc(fl.in.spans, func(x wantedSpan) bool { return !x.flight.landed && x.flight.waiting > 0 }):
			fl.in.cancel(errStopped)
		}
	}
	s.joined = nil
	s.p.mu.Unlock()
	for _, x := range idle {
		s.p.landSpan(x.Digest, x.flight, errStopped)
	}
}

// unwantLocked takes the span of fl out of what waits for a transfer, and gives it.
func (p *Proxy) unwantLocked(fl *spanFlight) []wantedSpan {
	q := p.spanRuns[fl.of]
	if q == nil {
		return nil
	}
	i := slices.IndexFunc(q.wanted, func(x wantedSpan) bool { return x.flight == fl })
	if i < 0 {
		return nil
	}
	x := q.wanted[i]
	q.wanted = slices.Delete(q.wanted, i, i+1)
	if q.at == 0 && len(q.wanted) == 0 {
		delete(p.spanRuns, fl.of)
	}
	return []wantedSpan{x}
}

// stopped gives what err is where the transfer ended because nobody waits for it:
// no fault of the upstream's or the store's.
func stopped(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStopped) {
		return errStopped
	}
	return err
}
