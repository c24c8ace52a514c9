package upstream

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
)

func TestPace(t *testing.T) {
	if err := newPace(0).wait(t.Context(), true, 0); err != nil {
		t.Errorf("without a bound: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPace(60) // one a second, ten at once
		start := time.Now()
		for range 10 {
			if err := p.wait(t.Context(), false, 0); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the first took %v", took)
		}
		order := make(chan int, 5)
		for n := range 5 {
			go func() {
				if err := p.wait(t.Context(), false, 10*time.Second); err != nil {
					t.Error(err)
				}
				order <- n
			}()
			synctest.Wait() // so that they come one after the other
		}
		err := p.wait(t.Context(), false, 5*time.Second)
		if h, ok := errors.AsType[*HeldError](err); !ok || !IsThrottled(err) || h.RetryAfter != 6*time.Second {
			t.Errorf("behind a queue that is too long: %v", err)
		}
		short, end := context.WithTimeout(t.Context(), 5*time.Second)
		defer end()
		began := time.Now()
		if err := p.wait(short, false, time.Minute); !IsThrottled(err) || !errors.Is(err, ErrBudget) || time.Since(began) != 0 {
			t.Errorf("who has no time to wait got %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := p.wait(ctx, false, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("whoever leaves got %v", err)
		}
		for n := range 5 {
			if got := <-order; got != n {
				t.Errorf("let through as number %d: %d", n, got)
			}
		}
	})
}

// TestPaceLeavesRoom holds that transfers never take the last places.
func TestPaceLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(600)
		for {
			if err := p.wait(t.Context(), true, 0); err != nil {
				break
			}
		}
		if err := p.wait(t.Context(), false, 0); err != nil {
			t.Errorf("a small request behind transfers: %v", err)
		}
	})
}

func TestBudget(t *testing.T) {
	if err := newBudget(0).spend(t.Context(), 1<<40, true); err != nil {
		t.Errorf("without a bound: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 1 << 20
		b := newBudget(perSecond)
		start := time.Now()
		var transfers sync.WaitGroup
		for range 4 { // 5 MiB together
			transfers.Go(func() {
				for range 10 {
					if err := b.spend(t.Context(), 128<<10, true); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(start); took < 4*time.Second || took > 5*time.Second {
					t.Errorf("a transfer took %v, want all to end together near the fifth second", took)
				}
			})
		}
		transfers.Wait()
		start = time.Now()
		if err := b.spend(t.Context(), 1<<20, false); err != nil || time.Since(start) != 0 {
			t.Errorf("what is no transfer waits: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.spend(ctx, 2<<20, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("whoever leaves got %v", err)
		}
	})
}

// TestBytesArePaced takes a blob from a real server, no faster than allowed.
func TestBytesArePaced(t *testing.T) {
	data := randomBytes(300_000)
	reg := newRegistry(t)
	d := reg.addBlob(data)
	c := newClient(t, reg.URL, func(o *Options) { o.BytesPerSecond = 1 << 20 })
	start := time.Now()
	got, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1})
	least := time.Duration(300_000-131_072) * time.Second / (1 << 20) // what is not paid in advance
	if took := time.Since(start); err != nil || !bytes.Equal(got, data) || took < least {
		t.Errorf("%d bytes in %v, %v; want them in %v at least", len(got), took, err, least)
	}
}

// TestThrottledUpstreamIsLeftAlone holds that after one 429 with a time nobody
// asks again before, whatever they want.
func TestThrottledUpstreamIsLeftAlone(t *testing.T) {
	reg := newRegistry(t)
	d := reg.addBlob([]byte("x"))
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Retry-After", "60")
		w.Header().Set("RateLimit-Limit", "100;w=21600")
		w.Header().Set("RateLimit-Remaining", "0;w=21600")
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down")
		return true
	}
	c := newClient(t, reg.URL)
	for range 3 {
		_, err := c.Manifest(t.Context(), repo, tag("v1"))
		if !IsThrottled(err) || !IsUnavailable(err) || RetryAfter(err) < 50*time.Second {
			t.Errorf("got %v", err)
		}
		if _, err := c.HeadBlob(t.Context(), repo, d); !IsThrottled(err) {
			t.Errorf("a blob: %v", err)
		}
	}
	if n := reg.count(repo); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	m := c.ends[0].gate.metrics
	if l, r, w := testutil.ToFloat64(m.limit), testutil.ToFloat64(m.remaining), testutil.ToFloat64(m.window); l != 100 || r != 0 || w != 21600 {
		t.Errorf("exported a limit of %v, %v left in %v", l, r, w)
	}
	if h := c.Health(); len(h) != 1 || h[0].State != "held" || h[0].Endpoint != reg.URL || h[0].Err == nil {
		t.Errorf("health is %+v", h)
	}
}

// TestUnsaidLimitsAreAbsent: sums and minima over series would count a stand-in.
func TestUnsaidLimitsAreAbsent(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newEndpointMetrics(reg, "docker.io", "https://registry-1.docker.io")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"sociable_upstream_ratelimit_limit", "sociable_upstream_ratelimit_remaining", "sociable_upstream_ratelimit_window_seconds"}
	for _, tt := range []struct {
		limit, remaining string
		want             int
	}{{"", "", 0}, {"100;w=21600", "76;w=21600", 3}, {"100", "", 2}} {
		m.rateLimit(http.Header{"Ratelimit-Limit": {tt.limit}, "Ratelimit-Remaining": {tt.remaining}})
		if n, err := testutil.GatherAndCount(reg, names...); n != tt.want || err != nil {
			t.Errorf("after %q and %q there are %d series (%v), want %d", tt.limit, tt.remaining, n, err, tt.want)
		}
	}
}

func TestParseRateLimit(t *testing.T) {
	for s, want := range map[string][2]int64{
		"100;w=21600": {100, 21600}, "76": {76, -1}, " 5 ; w=60": {5, 60}, "5;w=x": {5, -1}, "5;q=1;w=9": {5, 9},
		"": {-1, 0}, "x": {-1, 0}, "-1;w=3": {-1, 0}, "99999999999999999999": {-1, 0},
	} {
		n, w, ok := parseRateLimit(s)
		if ok != (want[0] >= 0) || ok && (n != want[0] || w != want[1]) {
			t.Errorf("%q: got %d, %d, %t", s, n, w, ok)
		}
	}
}

func FuzzParseRateLimit(f *testing.F) {
	f.Add("100;w=21600")
	f.Fuzz(func(t *testing.T, s string) {
		if n, w, ok := parseRateLimit(s); ok && (n < 0 || w < -1) {
			t.Errorf("%q: got %d, %d", s, n, w)
		}
	})
}
