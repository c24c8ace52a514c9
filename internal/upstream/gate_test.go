package upstream

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// newTestGate has a gate of its own clock: 3 failures, 10 s of pause, silent
// after 9 s.
func newTestGate(t *testing.T) *gate {
	t.Helper()
	m, err := newEndpointMetrics(nil, "test", "x")
	if err != nil {
		t.Fatal(err)
	}
	return newGate(Options{BreakerFailures: 3}.withDefaults(), slog.New(slog.DiscardHandler), m)
}

func TestGate(t *testing.T) {
	down := &UnreachableError{Err: errors.New("refused")}
	type try struct {
		after   time.Duration // since the last one
		takes   time.Duration
		outcome error
		held    bool // not let through
	}
	for _, tt := range []struct {
		name  string
		tries []try
		state string // in the end
		left  time.Duration
	}{
		{"well", []try{{}, {}}, "ok", 0},
		{"failures with answers between", []try{{outcome: down}, {outcome: down}, {}, {outcome: down}, {outcome: down}}, "ok", 0},
		{"failures in a row", []try{{outcome: down}, {outcome: &StatusError{Status: 502}}, {outcome: down}, {held: true}}, "down", 10 * time.Second},
		{"refusals are answers", []try{{outcome: &StatusError{Status: 404}}, {outcome: &StatusError{Status: 401}}, {outcome: &StatusError{Status: 403}}, {}}, "ok", 0},
		{"senseless answers are answers", []try{{outcome: &ProtocolError{}}, {outcome: &PolicyError{}}, {outcome: ErrDigest}, {}}, "ok", 0},
		{"trouble behind a redirect", []try{{outcome: &StatusError{Status: 500, elsewhere: true}}, {outcome: &StatusError{Status: 503, RetryAfter: time.Hour, elsewhere: true}}, {outcome: &StatusError{Status: 429, elsewhere: true}}, {}}, "ok", 0},
		{"a silence may be a dead connection", []try{{takes: 10 * time.Second, outcome: down}, {}}, "ok", 0},
		{"two silences are not", []try{{takes: 10 * time.Second, outcome: down}, {takes: 10 * time.Second, outcome: down}, {held: true}}, "down", 10 * time.Second},
		{"callers without patience", []try{
			{takes: time.Second, outcome: &UnreachableError{Err: context.DeadlineExceeded}},
			{takes: time.Second, outcome: &UnreachableError{Err: context.DeadlineExceeded}},
			{takes: time.Second, outcome: &UnreachableError{Err: context.DeadlineExceeded}}, {},
		}, "ok", 0},
		{"one finds out: still down", []try{{outcome: down}, {outcome: down}, {outcome: down}, {after: 11 * time.Second, outcome: down}, {held: true}}, "down", 20 * time.Second},
		{"still down, for long", []try{
			{outcome: down}, {outcome: down}, {outcome: down}, {after: 11 * time.Second, outcome: down}, {after: 19 * time.Second, held: true},
			{after: 2 * time.Second, outcome: down}, {after: 41 * time.Second, outcome: down}, {after: 61 * time.Second, outcome: down}, {after: 59 * time.Second, held: true},
		}, "down", time.Second},
		{"back, and down again", []try{
			{outcome: down}, {outcome: down}, {outcome: down}, {after: 11 * time.Second, outcome: down}, {after: 21 * time.Second},
			{outcome: down}, {outcome: down}, {outcome: down}, {held: true},
		}, "down", 10 * time.Second},
		{"one finds out: back", []try{{outcome: down}, {outcome: down}, {outcome: down}, {after: 11 * time.Second}, {}}, "ok", 0},
		{"time to find out", []try{{outcome: down}, {outcome: down}, {outcome: down}, {after: 11 * time.Second, outcome: errNoVerdict}}, "probed", 0},
		{"asked for a pause", []try{{outcome: &StatusError{Status: 429, RetryAfter: time.Minute}}, {after: 30 * time.Second, held: true}}, "held", 30 * time.Second},
		{"unavailable for a while", []try{{outcome: &StatusError{Status: 503, RetryAfter: time.Minute}}, {held: true}}, "held", time.Minute},
		{"asked for a pause without end", []try{{outcome: &StatusError{Status: 429, RetryAfter: 1000 * time.Hour}}, {held: true}}, "held", maxHold},
		{"the pause is over", []try{{outcome: &StatusError{Status: 429, RetryAfter: time.Minute}}, {after: 61 * time.Second}}, "ok", 0},
		{"a shorter pause does not shorten", []try{{outcome: &StatusError{Status: 429, RetryAfter: time.Minute}}, {after: 61 * time.Second, outcome: &StatusError{Status: 429, RetryAfter: 20 * time.Second}}, {held: true}}, "held", 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newTestGate(t)
				for n, try := range tt.tries {
					time.Sleep(try.after)
					done, err := g.enter(t.Context(), true, new(time.Duration))
					if held := is[*HeldError](err); held != try.held || err != nil && !held {
						t.Fatalf("try %d: got %v, want it held: %t", n, err, try.held)
					}
					if err != nil {
						if RetryAfter(err) <= 0 || !IsUnavailable(err) || IsDenied(err) || IsNotFound(err) {
							t.Errorf("try %d: held by %v", n, err)
						}
						continue
					}
					start, ctx := time.Now(), t.Context()
					time.Sleep(try.takes)
					if try.outcome == errNoVerdict { //nolint:errorlint // the very value
						var cancel context.CancelFunc
						ctx, cancel = context.WithCancel(ctx)
						cancel()
						try.outcome = context.Canceled
					}
					done(ctx, start, try.outcome)
				}
				if h := g.health(); h.State != tt.state || h.Left != tt.left || (h.Err == nil) != (tt.state == "ok") {
					t.Errorf("in the end %+v, want %s for %v", h, tt.state, tt.left)
				}
			})
		})
	}
}

// TestGateLetsOneThrough holds that a single request finds out whether an
// endpoint is back, and that all may ask once it did.
func TestGateLetsOneThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(t)
		for range 3 {
			done, err := g.enter(t.Context(), true, new(time.Duration))
			if err != nil {
				t.Fatal(err)
			}
			done(t.Context(), time.Now(), &UnreachableError{Err: errors.New("down")})
		}
		if n := testutil.ToFloat64(g.metrics.breaker); n != 2 {
			t.Errorf("the metric says %v, want 2: open", n)
		}
		time.Sleep(11 * time.Second)
		probe, err := g.enter(t.Context(), true, new(time.Duration))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := g.enter(t.Context(), true, new(time.Duration)); !is[*HeldError](err) {
				t.Errorf("beside the probe: %v", err)
			}
		}
		probe(t.Context(), time.Now(), nil)
		for range 5 {
			if _, err := g.enter(t.Context(), true, new(time.Duration)); err != nil {
				t.Errorf("after the probe: %v", err)
			}
		}
		if n := testutil.ToFloat64(g.metrics.refused); n != 5 {
			t.Errorf("counted %v refused, want 5", n)
		}
	})
}

// TestShortHoldIsWaitedFor holds that a pause of a moment delays everybody and
// fails nobody, unless there is another endpoint.
func TestShortHoldIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(t)
		done, err := g.enter(t.Context(), true, new(time.Duration))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		done(t.Context(), start, &StatusError{Status: 429, RetryAfter: 4 * time.Second})
		if _, err := g.enter(t.Context(), false, new(time.Duration)); !is[*HeldError](err) || !IsThrottled(err) {
			t.Errorf("an impatient one got %v", err)
		}
		for range 20 {
			go func() {
				_, err := g.enter(t.Context(), true, new(time.Duration))
				if took := time.Since(start); err != nil || took < 4*time.Second || took > 6*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.enter(ctx, true, new(time.Duration)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("whoever leaves got %v", err)
		}
		time.Sleep(10 * time.Second)
	})
}

// TestHoldsGrow holds that an upstream which throttles and names no time is
// given more of it each time.
func TestHoldsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(t)
		for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000} {
			done, err := g.enter(t.Context(), true, new(time.Duration))
			if err != nil {
				t.Fatal(err)
			}
			done(t.Context(), time.Now(), &StatusError{Status: 429})
			if got := g.health().Left; got != want*time.Millisecond {
				t.Errorf("held for %v, want %v ms", got, int(want))
			}
			done(t.Context(), time.Now(), &StatusError{Status: 429}) // was on its way
			if got := g.health().Left; got != want*time.Millisecond {
				t.Errorf("one that was asked before holds for %v, want %v ms", got, int(want))
			}
			time.Sleep(g.health().Left)
		}
		done, err := g.enter(t.Context(), true, new(time.Duration))
		if err != nil {
			t.Fatal(err)
		}
		done(t.Context(), time.Now(), nil)
		done(t.Context(), time.Now(), &StatusError{Status: 429})
		if got := g.health().Left; got != 100*time.Millisecond {
			t.Errorf("after an answer held for %v", got)
		}
	})
}
