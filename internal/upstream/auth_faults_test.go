package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTokenServiceFaults(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			refuse(w, code, "NOPE", "not now")
			return true
		}
	}
	text := func(body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for _, tc := range []struct {
		name                           string
		hook                           func(http.ResponseWriter, *http.Request) bool
		denied, unavailable, throttled bool
		tries                          int32
	}{
		{name: "wrong credentials", hook: status(401), denied: true, tries: 1},
		{name: "forbidden", hook: status(403), denied: true, tries: 1},
		{name: "not there", hook: status(404), unavailable: true, tries: 1},
		{name: "throttled", hook: status(429), unavailable: true, throttled: true, tries: 1},
		{name: "broken", hook: status(500), unavailable: true, tries: 1}, // Retry-After is beyond our patience
		{name: "no token", hook: text(`{"secret":"not a token"}`), unavailable: true, tries: 1},
		{name: "not JSON", hook: text(`<html>secret`), unavailable: true, tries: 1},
		{name: "huge", hook: text(`{"token":"` + strings.Repeat("x", 1<<20)), unavailable: true, tries: 4},
		{name: "cut", hook: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, unavailable: true, tries: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
			ts.hook = tc.hook
			guarded(reg, ts)
			c := newClient(t, reg.URL)
			_, err := c.Manifest(t.Context(), repo, tag("v1"))
			if err == nil || IsDenied(err) != tc.denied || IsUnavailable(err) != tc.unavailable ||
				IsThrottled(err) != tc.throttled || IsNotFound(err) {
				t.Errorf("got %v: denied %v, unavailable %v, throttled %v, not found %v",
					err, IsDenied(err), IsUnavailable(err), IsThrottled(err), IsNotFound(err))
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "scope=")) {
				t.Errorf("the error tells too much: %v", err)
			}
			if tc.throttled {
				if s, ok := errors.AsType[*StatusError](err); !ok || s.RetryAfter != time.Hour || s.Op != "token" {
					t.Errorf("got %+v", s)
				}
			}
			if n := ts.issued.Load(); n > tc.tries {
				t.Errorf("asked the token service %d times, want %d at most", n, tc.tries)
			}
		})
	}
}

func TestTokenServiceRecovers(t *testing.T) {
	ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
	var n atomic.Int32
	ts.hook = func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1) > 2 {
			return false
		}
		refuse(w, http.StatusBadGateway, "UNAVAILABLE", "")
		return true
	}
	guarded(reg, ts)
	reg.manifests["v1"] = []byte("{}")
	if _, err := newClient(t, reg.URL).Manifest(t.Context(), repo, tag("v1")); err != nil {
		t.Error(err)
	}
}

func TestPingIsRepeatedUntilAnswered(t *testing.T) {
	reg := newRegistry(t)
	reg.manifests["v1"] = []byte("{}")
	var down atomic.Bool
	down.Store(true)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return down.Load()
	}
	c := newClient(t, reg.URL)
	_, err := c.Manifest(t.Context(), repo, tag("v1"))
	if s, ok := errors.AsType[*StatusError](err); !ok || !IsUnavailable(err) || s.Status != 503 || s.Op != "ping" {
		t.Errorf("got %v", err)
	}
	down.Store(false)
	if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
		t.Error(err)
	}
}

// Registries that don't have /v2/ itself are asked all the same.
func TestPingIsNotFound(t *testing.T) {
	reg := newRegistry(t)
	reg.manifests["v1"] = []byte("{}")
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			http.NotFound(w, r)
		}
		return r.URL.Path == "/v2/"
	}
	if _, err := newClient(t, reg.URL).Manifest(t.Context(), repo, tag("v1")); err != nil {
		t.Error(err)
	}
}

// A caller who leaves takes nothing from those who wait for the same token.
func TestLeavingCallerPoisonsNothing(t *testing.T) {
	ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
	arrived, answer := make(chan struct{}), make(chan struct{})
	ts.hook = func(w http.ResponseWriter, r *http.Request) bool {
		close(arrived)
		<-answer
		return false
	}
	guarded(reg, ts)
	reg.manifests["v1"] = []byte("{}")
	c := newClient(t, reg.URL)
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() {
		_, err := c.Manifest(ctx, repo, tag("v1"))
		first <- err
	}()
	<-arrived
	key := repo + "\n" + pullScope(repo)
	go func() {
		_, err := c.Manifest(t.Context(), repo, tag("v1"))
		second <- err
	}()
	for joined := false; !joined; {
		c.ends[0].auth.exchanges.mu.Lock()
		joined = c.ends[0].auth.exchanges.calls[key].waiters == 2
		c.ends[0].auth.exchanges.mu.Unlock()
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) || IsUnavailable(err) {
		t.Errorf("who left got %v", err)
	}
	close(answer)
	if err := <-second; err != nil {
		t.Errorf("who stayed got %v", err)
	}
	if n := ts.issued.Load(); n != 1 {
		t.Errorf("asked for %d tokens, want 1", n)
	}
}

// The last caller to leave ends the exchange and everything it started.
func TestLastCallerEndsTheExchange(t *testing.T) {
	ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
	arrived := make(chan struct{})
	ts.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		close(arrived)
		<-r.Context().Done()
		return true
	}
	guarded(reg, ts)
	c := newClient(t, reg.URL)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, nil)
	go func() { <-arrived; cancel() }()
	if _, err := c.Manifest(ctx, repo, tag("v1")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := len(c.ends[0].auth.exchanges.calls); n != 0 {
		t.Errorf("%d exchanges are left", n)
	}
}
