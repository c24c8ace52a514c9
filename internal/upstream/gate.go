package upstream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// maxPauses bounds how the breaker's pause grows.
const maxPauses = 6

// maxHold is the longest that an endpoint can ask to be left alone: then it is
// asked once more, whatever it said.
const maxHold = 10 * time.Minute

// unsaid is how many times maxWait, which is a minute by default, an endpoint is
// left alone at most whose 429 does not say for how long: at once where it says
// that its limit is spent, and no longer than the window of the limit.
const unsaid = 12

// gate decides whether an endpoint may be asked. It holds everything back that
// would go to one that asked for a pause (429 and 503 with Retry-After, RFC 9110
// §10.2.3), and is a circuit breaker in front of one that does not answer: after
// some failures nothing is asked for a while, then a single request finds out
// whether it is back; as long as it is not, the while doubles, up to maxPauses of
// it. So nobody waits for what was just seen to fail.
type gate struct {
	upstream string
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	metrics  *endpointMetrics
	log      *slog.Logger

	mu sync.Mutex
	settings
	held      time.Time // until then
	doubted   time.Time // until then others are asked first
	reopens   time.Time // when one request may find out; zero: the breaker is closed
	opened    int       // how often the breaker did without closing between
	heard     time.Time // the last answer
	throttled int       // 429s without an answer between
	silent    bool      // the failure that is being counted is a silence
	why       error     // the last failure
}

// settings of a gate come from Options.
type settings struct {
	maxWait  time.Duration // what a request waits for a hold to end
	backoff  time.Duration // the first hold for a 429 that says nothing
	silence  time.Duration // without an answer for so long, an endpoint is silent
	pause    time.Duration // of the open breaker, the first time
	failures int           // that open it
}

func (o Options) gate() settings {
	return settings{
		maxWait: o.MaxBackoff, backoff: o.Backoff, pause: o.BreakerPause, failures: o.BreakerFailures,
		silence: o.HeaderTimeout * 9 / 10, // a caller's deadline may be the same
	}
}

func newGate(o Options, log *slog.Logger, m *endpointMetrics) *gate {
	g := &gate{upstream: o.Name, metrics: m, log: log, settings: o.gate()}
	g.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:       1, // how long it is open is in reopens, because that can be changed
		ReadyToTrip:   func(n gobreaker.Counts) bool { return g.tripped(int(n.ConsecutiveFailures)) },
		IsExcluded:    func(err error) bool { return err == errNoVerdict }, //nolint:errorlint // the very value
		OnStateChange: func(_ string, _, to gobreaker.State) { g.changed(to) },
	})
	return g
}

// apply puts other settings in force. What was found out stays, and no pause is
// longer than these would make it.
func (g *gate) apply(s settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settings = s
	if most := time.Now().Add(maxPauses * s.pause); g.reopens.After(most) {
		g.reopens = most
	}
	if g.reopens.IsZero() { // the metrics may be those of a gate that was here before
		g.metrics.breaker.Set(float64(gobreaker.StateClosed))
	}
	if g.held.IsZero() {
		g.metrics.heldUntil.Set(0)
	}
}

// waits is the most that a request waits for a hold.
func (g *gate) waits() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.maxWait
}

// errNoVerdict says nothing about the endpoint: nobody waited for its answer.
var errNoVerdict = errors.New("no verdict")

// enter lets a request pass, or says why it may not. done is called with the
// outcome, up to the headers of the answer. Where a hold ends soon a patient
// request waits for it, however many follow one another, up to maxWait in all:
// held is what it has waited already, its attempts of before included.
func (g *gate) enter(ctx context.Context, patient bool, held *time.Duration) (done func(context.Context, time.Time, error), err error) {
	if err := g.wait(ctx, patient, held); err != nil {
		return nil, err
	}
	var verdict func(error)
	if err = g.open(); err == nil {
		if verdict, err = g.breaker.Allow(); err != nil {
			err = g.beside()
		} else if err = g.passes(); err != nil {
			verdict(errNoVerdict)
		}
	}
	if err != nil {
		g.metrics.refused.Inc()
		return nil, err
	}
	return func(ctx context.Context, start time.Time, err error) { verdict(g.judge(ctx, start, err)) }, nil
}

// wait waits for the end of a hold, or is the error for that.
func (g *gate) wait(ctx context.Context, patient bool, held *time.Duration) error {
	for {
		left, err := g.holding()
		if left <= 0 {
			return nil
		}
		if !patient || left > g.waits()-*held {
			g.metrics.refused.Inc()
			return err
		}
		// Those who waited do not come all at once.
		pause := left + rand.N(left/4+1)
		*held += pause
		if werr := sleep(ctx, pause); werr != nil {
			return werr
		}
	}
}

// holding is how long everything is still held back, and the error for that.
func (g *gate) holding() (time.Duration, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := time.Until(g.held)
	return left, &HeldError{Upstream: g.upstream, Throttled: true, RetryAfter: left, Err: g.why}
}

// open is the error while nothing is asked because there was no answer, or nil.
func (g *gate) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := time.Until(g.reopens)
	if left <= 0 {
		return nil
	}
	return &HeldError{Upstream: g.upstream, RetryAfter: left, Err: g.why}
}

// passes is open for a request that the breaker has let through: it may have
// opened a moment before.
func (g *gate) passes() error {
	if err := g.open(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.reopens.IsZero() {
		g.metrics.breaker.Set(float64(gobreaker.StateHalfOpen))
	}
	return nil
}

// beside is the error for who comes while a request finds out.
func (g *gate) beside() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &HeldError{Upstream: g.upstream, RetryAfter: time.Second, Err: g.why}
}

// closed reports that a request would not pass now.
func (g *gate) closed() bool {
	left, _ := g.holding()
	return left > 0 || g.open() != nil
}

// judge notes what a request's outcome says about the endpoint, and returns the
// breaker's share of it.
func (g *gate) judge(ctx context.Context, start time.Time, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, answered := errors.AsType[*StatusError](err)
	switch {
	case err == nil, answered && !failure[s.Status] && !s.throttles():
		g.heard, g.throttled = time.Now(), 0
		return nil
	case answered && s.elsewhere: // where a redirect led is not the endpoint
		g.heard = time.Now()
		return nil
	case answered && s.throttles():
		g.heard, g.why = time.Now(), err
		g.hold(s)
		return nil
	case answered:
		g.heard, g.why, g.silent = time.Now(), err, false
		return err
	case is[*UnreachableError](err):
		waited := time.Since(start)
		if (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) && waited < g.silence {
			return errNoVerdict
		}
		g.why, g.silent = err, waited >= g.silence && g.heard.Before(start)
		return err
	case ctx.Err() != nil, is[*HeldError](err):
		return errNoVerdict
	default: // an answer that makes no sense
		g.heard = time.Now()
		return nil
	}
}

// failure are the statuses of an endpoint that is in trouble.
var failure = map[int]bool{
	http.StatusInternalServerError: true, http.StatusBadGateway: true,
	http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true,
}

// throttles reports an answer that asks for a pause.
func (e *StatusError) throttles() bool {
	return !e.elsewhere && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable && e.RetryAfter > 0)
}

// hold holds everything back for as long as s wants, or for longer each time.
func (g *gate) hold(s *StatusError) {
	d := s.RetryAfter
	if most := unsaid * g.maxWait; d <= 0 && s.spent {
		if d = most; s.window > 0 {
			d = min(d, s.window)
		}
	} else if d <= 0 {
		if time.Now().Before(g.held) {
			return // asked before that began
		}
		d = min(g.backoff<<min(g.throttled, 20), most)
	}
	g.throttled++
	until := time.Now().Add(min(d, maxHold))
	if until.After(g.held) {
		if g.held = until; g.breaker == nil {
			return // a caller's, which is no news of the endpoint
		}
		g.metrics.heldUntil.Set(float64(until.UnixMilli()) / 1000)
		if d > g.maxWait {
			g.log.Warn("upstream asks for a pause: nothing is asked of it until then", "until", until.Format(time.RFC3339), "err", s)
		}
	}
}

// tripped is asked within judge's verdict, after a failure.
func (g *gate) tripped(failures int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.silent && failures > 1 || failures >= g.failures
}

func (g *gate) changed(to gobreaker.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch to {
	case gobreaker.StateOpen:
		g.metrics.breaker.Set(float64(to))
		pause := g.pause * time.Duration(min(1<<min(g.opened, 10), maxPauses))
		g.opened++
		g.reopens = time.Now().Add(pause)
		g.log.Warn("upstream does not answer: nothing is asked of it for a while", "dur", pause, "err", g.why)
	case gobreaker.StateClosed:
		g.metrics.breaker.Set(float64(to))
		g.opened, g.reopens = 0, time.Time{}
		g.log.Info("upstream answers again")
	}
}

// Health is how one endpoint of an upstream does.
type Health struct {
	Upstream string
	Endpoint string        // scheme://host, and a mirror's path
	State    string        // ok, offline (by configuration), held (it asked for a pause), down (it does not answer), probed (whether it answers again is being found out)
	Left     time.Duration // until it may be asked again
	Err      error         // why; nil when ok
}

// Health tells how the endpoints do, in the order in which they are asked.
func (c *Client) Health() []Health {
	var list []Health
	for _, e := range c.ends {
		h := e.gate.health()
		h.Upstream, h.Endpoint = c.opt.Name, e.root.Scheme+"://"+e.root.Host+strings.TrimSuffix("/"+e.prefix, "/")
		if c.opt.Offline {
			h.State = "offline"
		}
		list = append(list, h)
	}
	return list
}

func (g *gate) health() Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch held, open := time.Until(g.held), time.Until(g.reopens); {
	case held > 0:
		return Health{State: "held", Left: held, Err: g.why}
	case open > 0:
		return Health{State: "down", Left: open, Err: g.why}
	case !g.reopens.IsZero():
		return Health{State: "probed", Err: g.why}
	default:
		return Health{State: "ok"}
	}
}
