package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
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
