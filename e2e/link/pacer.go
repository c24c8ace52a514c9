package link

import (
	"context"
	"time"
)

// slack is how late a sender may be and still keep its place: timers fire late,
// and the link is not to lose bandwidth by that. A link that was idle for longer
// has saved nothing up.
const slack = 5 * time.Millisecond

// pacer shares a bandwidth: each reservation begins where the last one ends.
type pacer struct {
	rate int64 // bytes a second; 0: unlimited
	free time.Time
}

// reserve gives the time at which n bytes are through if they are sent now.
func (p *pacer) reserve(now time.Time, n int) time.Time {
	if p.rate == 0 {
		return now
	}
	if p.free.Before(now.Add(-slack)) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	return p.free
}

// sleepUntil returns false when ctx ends first.
func sleepUntil(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
