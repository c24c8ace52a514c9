package upstream

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// ErrBudget is wrapped when it is our own budget for an upstream that is spent
// for now: it was not asked. Such an error IsThrottled.
var ErrBudget = errors.New("the requests a minute that this upstream may be sent are spent")

// pace bounds the requests to one endpoint. Those who wait are let through in
// the order in which they came; transfers of blobs leave an eighth to the rest,
// so that the check of a tag does not queue behind layers.
// How many that are can be changed; who queues already keeps the place.
type pace struct{ now atomic.Pointer[pacing] }

type pacing struct {
	perMinute int
	all, bulk *rate.Limiter
}

// newPace allows perMinute requests; 0 allows any number. A sixth may come at
// once.
func newPace(perMinute int) *pace {
	p := &pace{}
	p.set(perMinute)
	return p
}

func (p *pace) set(perMinute int) {
	was := p.now.Load()
	if perMinute <= 0 {
		p.now.Store(nil)
	} else if was == nil || was.perMinute != perMinute {
		burst := max(1, perMinute/6)
		p.now.Store(&pacing{
			perMinute: perMinute,
			all:       rate.NewLimiter(rate.Limit(float64(perMinute)/60), burst),
			bulk:      rate.NewLimiter(rate.Limit(float64(perMinute)/60*7/8), max(1, burst-burst/8)),
		})
	}
}

// wait takes a place in the queue and waits for it, or fails with a HeldError
// at once when that would take longer than limit, or than ctx has.
func (p *pace) wait(ctx context.Context, bulk bool, limit time.Duration) error {
	limits := p.now.Load()
	if limits == nil {
		return nil
	}
	now := time.Now()
	if until, ok := ctx.Deadline(); ok {
		limit = min(limit, until.Sub(now))
	}
	taken := []*rate.Reservation{limits.all.ReserveN(now, 1)}
	if bulk {
		taken = append(taken, limits.bulk.ReserveN(now, 1))
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
// together: each takes its turn piece by piece. When it is changed, the next
// piece of every transfer is of the new one.
type budget struct{ now atomic.Pointer[rate.Limiter] }

// newBudget allows perSecond bytes; 0 allows any number.
func newBudget(perSecond int64) *budget {
	b := &budget{}
	b.set(perSecond)
	return b
}

func (b *budget) set(perSecond int64) {
	was := b.now.Load()
	if perSecond <= 0 {
		b.now.Store(nil)
	} else if was == nil || was.Limit() != rate.Limit(perSecond) {
		b.now.Store(rate.NewLimiter(rate.Limit(perSecond), int(max(64<<10, min(perSecond/8, 4<<20)))))
	}
}

// spend accounts for n bytes that have come, and has a transfer wait until they
// are paid for. What is no transfer is small, and somebody waits for it: it is
// paid for by those that are.
func (b *budget) spend(ctx context.Context, n int, transfer bool) error {
	for n > 0 {
		limit := b.now.Load()
		if limit == nil {
			return nil
		}
		k := min(n, limit.Burst())
		n -= k
		now := time.Now()
		delay := limit.ReserveN(now, k).DelayFrom(now)
		if !transfer || delay <= 0 {
			continue
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
	return nil
}
