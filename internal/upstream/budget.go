package upstream

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"
)

// ErrBudget is wrapped when it is our own budget for an upstream that is spent
// for now: it was not asked. Such an error IsThrottled.
var ErrBudget = errors.New("the requests a minute that this upstream may be sent are spent")

// pace bounds the requests to one endpoint. Those who wait are let through in
// the order in which they came; transfers of blobs leave an eighth to the rest,
// so that the check of a tag does not queue behind layers.
type pace struct{ all, bulk *rate.Limiter }

// newPace allows perMinute requests; 0 allows any number. A sixth may come at
// once.
func newPace(perMinute int) *pace {
	if perMinute <= 0 {
		return nil
	}
	burst := max(1, perMinute/6)
	return &pace{
		all:  rate.NewLimiter(rate.Limit(float64(perMinute)/60), burst),
		bulk: rate.NewLimiter(rate.Limit(float64(perMinute)/60*7/8), max(1, burst-burst/8)),
	}
}

// wait takes a place in the queue and waits for it, or fails with a HeldError
// at once when that would take longer than limit.
func (p *pace) wait(ctx context.Context, bulk bool, limit time.Duration) error {
	if p == nil {
		return nil
	}
	now := time.Now()
	taken := []*rate.Reservation{p.all.ReserveN(now, 1)}
	if bulk {
		taken = append(taken, p.bulk.ReserveN(now, 1))
	}
	var delay time.Duration
	for _, r := range taken {
		delay = max(delay, r.DelayFrom(now))
	}
	err := error(nil)
	if delay > limit {
		err = &HeldError{Throttled: true, RetryAfter: delay, Err: ErrBudget}
	} else if delay > 0 {
		err = sleep(ctx, delay)
	}
	if err != nil {
		for _, r := range taken {
			r.Cancel() // whoever comes next may have the place
		}
	}
	return err
}

// budget bounds the bytes that come from an upstream, all its transfers
// together: each takes its turn piece by piece.
type budget struct{ bytes *rate.Limiter }

// newBudget allows perSecond bytes; 0 allows any number.
func newBudget(perSecond int64) *budget {
	if perSecond <= 0 {
		return nil
	}
	return &budget{rate.NewLimiter(rate.Limit(perSecond), int(max(64<<10, min(perSecond/8, 4<<20))))}
}

// spend accounts for n bytes that have come, and has a transfer wait until they
// are paid for. What is no transfer is small, and somebody waits for it: it is
// paid for by those that are.
func (b *budget) spend(ctx context.Context, n int, transfer bool) error {
	if b == nil {
		return nil
	}
	for n > 0 {
		k := min(n, b.bytes.Burst())
		n -= k
		now := time.Now()
		delay := b.bytes.ReserveN(now, k).DelayFrom(now)
		if !transfer || delay <= 0 {
			continue
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
	return nil
}
