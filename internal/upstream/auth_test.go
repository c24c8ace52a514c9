package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// tokenService issues tokens that registries made with guarded accept, as the
// token authentication specification of the distribution project has it.
type tokenService struct {
	*httptest.Server
	user, password string // "": anybody
	needScope      string // a scope that a token needs besides the repository's
	hook           func(w http.ResponseWriter, r *http.Request) bool

	issued atomic.Int32
	mu     sync.Mutex
	valid  map[string]string // token → scopes
}

func newTokenService(t *testing.T, start func(*httptest.Server)) *tokenService {
	t.Helper()
	ts := &tokenService{valid: map[string]string{}}
	ts.Server = httptest.NewUnstartedServer(ts)
	start(ts.Server)
	t.Cleanup(ts.Close)
	return ts
}

func (ts *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := ts.issued.Add(1)
	if ts.hook != nil && ts.hook(w, r) {
		return
	}
	user, password, _ := r.BasicAuth()
	if user != ts.user || password != ts.password || r.URL.Query().Get("service") != "the registry" {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	token := "token-" + strconv.Itoa(int(n))
	ts.valid[token] = strings.Join(r.URL.Query()["scope"], " ")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

// revoke makes every token issued so far invalid.
func (ts *tokenService) revoke() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	clear(ts.valid)
}

func (ts *tokenService) accepts(r *http.Request) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	scopes, ok := ts.valid[token]
	if r.URL.Path == "/v2/" {
		return ok
	}
	return ok && strings.Contains(scopes, "repository:"+repo+":pull") && strings.Contains(scopes, ts.needScope)
}

// guarded makes reg refuse whoever has no token of ts.
func guarded(reg *registry, ts *tokenService) {
	inner := reg.hook
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if ts.accepts(r) {
			return inner != nil && inner(w, r)
		}
		ch := fmt.Sprintf(`Bearer realm="%s/token",service="the registry"`, ts.URL)
		if r.URL.Path != "/v2/" && ts.needScope != "" {
			ch += fmt.Sprintf(`,scope="%s",error="insufficient_scope"`, ts.needScope)
		}
		w.Header().Set("WWW-Authenticate", ch)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return true
	}
}

func credentials(user, password string) func(*Options) {
	return func(o *Options) { o.Username, o.Password = user, password }
}

func TestAnonymous(t *testing.T) {
	reg := newRegistry(t)
	reg.manifests["v1"] = []byte("{}")
	c := newClient(t, reg.URL)
	if c.HasCredentials() || c.Name() != "test" {
		t.Errorf("credentials %v, name %q", c.HasCredentials(), c.Name())
	}
	for range 3 {
		if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range reg.requests() {
		if a := r.Header.Get("Authorization"); a != "" || (r.URL.Path == "/v2/") != (i == 0) {
			t.Errorf("request %d is for %s with Authorization %q", i, r.URL.Path, a)
		}
	}
}

func TestBasic(t *testing.T) {
	for _, withoutPing := range []bool{false, true} { // some guard their repositories only
		reg := newRegistry(t)
		reg.manifests["v1"] = []byte("{}")
		reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
			u, p, _ := r.BasicAuth()
			if (withoutPing && r.URL.Path == "/v2/") || (u == "robot" && p == "secret") {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="a registry"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "no")
			return true
		}
		c := newClient(t, reg.URL, credentials("robot", "secret"))
		if !c.HasCredentials() {
			t.Error("the client says that it has no credentials")
		}
		for range 2 {
			if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
				t.Fatal(err)
			}
		}
		for _, wrong := range []func(*Options){credentials("robot", "wrong"), func(*Options) {}} {
			c := newClient(t, reg.URL, wrong)
			before := reg.count("manifests")
			if _, err := c.Manifest(t.Context(), repo, tag("v1")); !IsDenied(err) || IsUnavailable(err) {
				t.Errorf("with the wrong credentials: %v", err)
			}
			if n := reg.count("manifests") - before; n > 2 {
				t.Errorf("asked %d times with the wrong credentials", n)
			}
		}
	}
}

func TestBearer(t *testing.T) {
	for _, tc := range []struct {
		name           string
		user, password string
		needScope      string
		tls            bool
	}{
		{name: "anonymous"},
		{name: "with credentials", user: "robot", password: "secret"},
		{name: "with a scope of its own", needScope: "aws"},
		{name: "over TLS", user: "robot", password: "secret", tls: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := (*httptest.Server).Start
			if tc.tls {
				start = (*httptest.Server).StartTLS
			}
			ts, reg := newTokenService(t, start), startRegistry(t, start)
			ts.user, ts.password, ts.needScope = tc.user, tc.password, tc.needScope
			guarded(reg, ts)
			d := reg.addBlob([]byte("some bytes"))
			c := newClient(t, reg.URL, credentials(tc.user, tc.password), func(o *Options) {
				if tc.tls {
					o.RootCAs = rootCAs(ts.Server, reg.Server)
				}
			})
			askAll(t, c, reg, d.String(), 40)
			want := int32(1)
			if tc.needScope != "" {
				want = 2
			}
			if n := ts.issued.Load(); n > want && tc.needScope == "" {
				t.Errorf("%d tokens were asked for, want %d", n, want)
			}
			if n := reg.count("/v2/") - reg.count(repo); n != 1 {
				t.Errorf("%d pings, want 1", n)
			}

			// A token that is not accepted any more is exchanged once for all.
			before := ts.issued.Load()
			ts.revoke()
			askAll(t, c, reg, d.String(), 40)
			if n := ts.issued.Load() - before; n != 1 {
				t.Errorf("%d tokens were asked for after the first was revoked, want 1", n)
			}

			// So is one that will expire.
			before = ts.issued.Load()
			c.ends[0].auth.mu.Lock()
			tok := c.ends[0].auth.tokens[repo]
			tok.until = time.Now().Add(-time.Second)
			c.ends[0].auth.tokens[repo] = tok
			c.ends[0].auth.mu.Unlock()
			asked := len(reg.requests())
			askAll(t, c, reg, d.String(), 40)
			if n := ts.issued.Load() - before; n != 1 {
				t.Errorf("%d tokens were asked for after the first expired, want 1", n)
			}
			if n := len(reg.requests()) - asked; n != 40 {
				t.Errorf("40 questions took %d requests", n)
			}
		})
	}
}

// askAll asks for a blob n times at once.
func askAll(t *testing.T, c *Client, reg *registry, d string, n int) {
	t.Helper()
	ref, err := oci.ParseReference(d)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if size, err := c.HeadBlob(t.Context(), repo, ref.Digest); err != nil || size != int64(len(reg.blobs[ref.Digest])) {
				t.Errorf("got %d, %v", size, err)
			}
		})
	}
	wg.Wait()
}

func TestAlwaysUnauthorized(t *testing.T) {
	ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+ts.URL+`",service="the registry"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "never")
		return true
	}
	c := newClient(t, reg.URL)
	_, err := c.Manifest(t.Context(), repo, tag("v1"))
	s, ok := errors.AsType[*StatusError](err)
	if !IsDenied(err) || IsUnavailable(err) || IsNotFound(err) || !ok || s.Code != "UNAUTHORIZED" || s.Message != "never" {
		t.Errorf("got %v", err)
	}
	if n := reg.count("manifests"); n != 1 { // the token was fresh, another one would be no better
		t.Errorf("asked %d times, want once", n)
	}
	if _, err := c.Manifest(t.Context(), repo, tag("v1")); !IsDenied(err) {
		t.Errorf("got %v", err)
	}
	if n, tok := reg.count("manifests"), ts.issued.Load(); n != 3 || tok != 2 {
		t.Errorf("asked %d times with %d tokens, want 3 and 2", n, tok)
	}
}

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

func TestTokensAreBounded(t *testing.T) {
	reg := newRegistry(t)
	a := newClient(t, reg.URL).ends[0].auth
	for i := range 3 * maxTokens {
		a.keep(strconv.Itoa(i), token{until: time.Now().Add(time.Hour)})
	}
	if n := len(a.tokens); n > maxTokens {
		t.Errorf("%d tokens are kept, want %d at most", n, maxTokens)
	}
	a.keep("expired", token{})
	for i := range 2 * maxTokens {
		a.keep("expired"+strconv.Itoa(i), token{})
	}
	if n := len(a.tokens); n > maxTokens {
		t.Errorf("%d tokens are kept, want %d at most", n, maxTokens)
	}
}
