package upstream

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestFollowOpenBreaker holds that an endpoint which does not answer is still left
// alone by a client with other times and another breaker, whose settings hold
// from then on.
func TestFollowOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		client := func(mod func(*Options)) *Client {
			return newClient(t, "http://up.example", func(o *Options) {
				o.Registerer, o.BreakerFailures, o.BreakerPause = reg, 3, 10*time.Second
				mod(o)
			})
		}
		fail := func(g *gate, failures int) {
			t.Helper()
			for range failures {
				done, err := g.enter(t.Context(), true, new(time.Duration))
				if err != nil {
					t.Fatal(err)
				}
				done(t.Context(), time.Now(), &UnreachableError{Err: errors.New("down")})
			}
		}
		want := func(c *Client, state string, left time.Duration, metric float64) {
			t.Helper()
			if h := c.Health()[0]; h.State != state || h.Left != left {
				t.Errorf("it is %s for %v, want %s for %v", h.State, h.Left, state, left)
			}
			if got := testutil.ToFloat64(c.ends[0].gate.metrics.breaker); got != metric {
				t.Errorf("%s: the metric says %v, want %v", state, got, metric)
			}
		}
		old := client(func(*Options) {})
		fail(old.ends[0].gate, 3)
		want(old, "down", 10*time.Second, 2)

		c := client(func(o *Options) { o.HeaderTimeout, o.BreakerFailures, o.BreakerPause = time.Second, 1, 3*time.Second })
		want(old, "down", 10*time.Second, 2) // that another one was made changes nothing
		c.Follow(old, true)
		want(c, "down", 10*time.Second, 2)
		c.Apply()
		want(c, "down", 10*time.Second, 2)
		if _, err := c.ends[0].gate.enter(t.Context(), true, new(time.Duration)); RetryAfter(err) != 10*time.Second {
			t.Errorf("it is asked: %v", err)
		}
		time.Sleep(10 * time.Second)
		want(c, "probed", 0, 2)
		fail(c.ends[0].gate, 1)
		want(c, "down", 6*time.Second, 2) // the second pause of three seconds
		time.Sleep(6 * time.Second)
		done, err := c.ends[0].gate.enter(t.Context(), true, new(time.Duration))
		if err != nil {
			t.Fatal(err)
		}
		want(c, "probed", 0, 1)
		done(t.Context(), time.Now(), nil)
		want(c, "ok", 0, 0)
		fail(c.ends[0].gate, 1) // of one
		want(c, "down", 3*time.Second, 2)

		short := client(func(o *Options) { o.BreakerPause = 100 * time.Millisecond })
		short.Follow(c, true)
		short.Apply()
		want(short, "down", 600*time.Millisecond, 2)

		other := client(func(*Options) {}) // asked otherwise, which may well be answered
		other.Follow(short, false)
		other.Apply()
		want(other, "ok", 0, 0)
	})
}

// TestApplyForgetsAHold: an endpoint that is asked in another name is not held,
// and no metric says so.
func TestApplyForgetsAHold(t *testing.T) {
	reg := prometheus.NewRegistry()
	client := func() *Client { return newClient(t, "http://up.example", func(o *Options) { o.Registerer = reg }) }
	old := client()
	done, err := old.ends[0].gate.enter(t.Context(), true, new(time.Duration))
	if err != nil {
		t.Fatal(err)
	}
	done(t.Context(), time.Now(), &StatusError{Status: http.StatusTooManyRequests, RetryAfter: time.Minute})
	for _, health := range []bool{true, false} {
		c := client()
		c.Follow(old, health)
		c.Apply()
		if got := testutil.ToFloat64(c.ends[0].gate.metrics.heldUntil); (got > 0) != health || (c.Health()[0].State == "held") != health {
			t.Errorf("with its health %t: %+v, and the metric says %v", health, c.Health()[0], got)
		}
	}
}
