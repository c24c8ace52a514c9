package upstream

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetChanges: what is changed counts for transfers that are under way.
func TestBudgetChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10 << 20)
		spend := func(n int) time.Duration {
			start := time.Now()
			if err := b.spend(t.Context(), n, true); err != nil {
				t.Error(err)
			}
			return time.Since(start).Round(time.Second)
		}
		if took := spend(20 << 20); took != 2*time.Second {
			t.Errorf("20 MiB at 10 MiB/s took %v", took)
		}
		b.set(1 << 20)
		if took := spend(20 << 20); took != 20*time.Second {
			t.Errorf("20 MiB at 1 MiB/s took %v", took)
		}
		b.set(1 << 20) // is no new beginning
		if took := spend(1 << 20); took != time.Second {
			t.Errorf("1 MiB more took %v", took)
		}
		b.set(0)
		if took := spend(1 << 30); took != 0 {
			t.Errorf("without a bound 1 GiB took %v", took)
		}
	})
}

func TestSlotsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		got := make(chan int, 4)
		take := func(n int) {
			go func() {
				if err := s.take(t.Context()); err != nil {
					t.Error(err)
				}
				got <- n
			}()
			synctest.Wait()
		}
		want := func(ns ...int) {
			t.Helper()
			synctest.Wait()
			if len(got) != len(ns) {
				t.Fatalf("%d came, want %v", len(got), ns)
			}
			for _, n := range ns {
				if g := <-got; g != n {
					t.Errorf("number %d came, want %d", g, n)
				}
			}
		}
		for n := range 4 {
			take(n)
		}
		want(0, 1)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- s.take(ctx) }()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		s.set(1)
		s.free()
		want() // one is taken still
		s.free()
		want(2)
		s.set(3)
		want(3)
		if n := s.inUse(); n != 2 {
			t.Errorf("%d are taken, want 2", n)
		}
	})
}

// TestFollow: a client that replaces another shares its budgets and goes on with
// what was found out.
func TestFollow(t *testing.T) {
	reg := newRegistry(t)
	asked := 0
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		asked++
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down")
		return true
	}
	old := newClient(t, reg.URL, func(o *Options) { o.MaxTransfers, o.BytesPerSecond, o.RequestsPerMinute = 1, 1<<20, 60 })
	if _, err := old.Manifest(t.Context(), repo, tag("v1")); !IsThrottled(err) {
		t.Fatal(err)
	}
	before := asked
	free, err := old.acquire(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		mod    func(*Options)
		health bool
		want   string
	}{
		"another key":            {func(o *Options) { o.Retries = 1 }, true, "held"},
		"the breaker's settings": {func(o *Options) { o.BreakerFailures = 9 }, true, "held"},
		"another name":           {func(o *Options) { o.Username, o.Password = "a", "b" }, false, "ok"},
	} {
		c := newClient(t, reg.URL, tt.mod)
		c.Follow(old, tt.health)
		if h := c.Health()[0]; h.State != tt.want {
			t.Errorf("%s: %+v, want %s", name, h, tt.want)
		}
		if c.budget != old.budget || c.ends[0].rate != old.ends[0].rate || c.bulk.inUse() != 1 {
			t.Errorf("%s: it has budgets of its own", name)
		}
		if tt.want == "held" {
			if _, err := c.Manifest(t.Context(), repo, tag("v1")); !IsThrottled(err) || asked != before {
				t.Errorf("%s: %v, asked %d times", name, err, asked-before)
			}
		}
	}
	c := newClient(t, reg.URL, func(o *Options) { o.MaxTransfers = 2 })
	c.Follow(old, true)
	ctx, end := context.WithCancel(t.Context())
	end()
	if old.bulk.most != 1 || old.budget.now.Load() == nil {
		t.Error("it changed something before it was applied")
	}
	c.Apply()
	if old.budget.now.Load() != nil || old.ends[0].rate.now.Load() != nil {
		t.Error("transfers that are under way keep the budget of before")
	}
	if more, err := c.acquire(t.Context(), true); err != nil {
		t.Error(err)
	} else if _, err := c.acquire(ctx, true); err == nil {
		t.Error("three transfers where two are allowed, the old one included")
	} else {
		more()
	}
	free()
}

// TestThrottledWithoutATime: an endpoint whose 429 does not say for how long it
// wants to be left alone is asked ever more seldom, and hardly at all when it says
// that its limit is spent; what clients are told is never longer than a hold.
func TestThrottledWithoutATime(t *testing.T) {
	for _, tt := range []struct {
		name        string
		spent       bool
		window      time.Duration
		first, last time.Duration
	}{
		{"a burst", false, 0, 100 * time.Millisecond, time.Minute},
		{"a limit that is spent", true, 0, time.Minute, time.Minute},
		{"one of a short window", true, 5 * time.Second, 5 * time.Second, 5 * time.Second},
		{"one of a long window", true, 6 * time.Hour, time.Minute, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newClient(t, "http://up.example", func(o *Options) { o.Backoff, o.MaxBackoff = 100*time.Millisecond, 5*time.Second }).ends[0].gate
				var holds []time.Duration
				for range 12 {
					done, err := g.enter(t.Context(), false, new(time.Duration))
					if err != nil {
						t.Fatal(err)
					}
					done(t.Context(), time.Now(), &StatusError{Status: http.StatusTooManyRequests, spent: tt.spent, window: tt.window})
					left, _ := g.holding()
					holds = append(holds, left)
					time.Sleep(left)
				}
				if holds[0] != tt.first || holds[11] != tt.last {
					t.Errorf("held for %v", holds)
				}
			})
		})
	}
	if !limitSpent(http.Header{"Ratelimit-Remaining": {"0;w=21600"}}) || limitSpent(http.Header{"Ratelimit-Remaining": {"1;w=21600"}}) || limitSpent(http.Header{}) {
		t.Error("whether a limit is spent is misread")
	}
	if got := RetryAfter(&StatusError{Status: http.StatusTooManyRequests, RetryAfter: 99999999 * time.Second}); got != maxHold {
		t.Errorf("clients are told to come after %v, and the upstream is asked after %v", got, maxHold)
	}
}
