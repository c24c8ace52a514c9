package access

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestTokens walks the ways of a client with the token service.
func TestTokens(t *testing.T) {
	b := newBench(t, mixed())
	const priv = "repository:a.io/private/x:pull"
	status := func(path, token string) int { return b.get(t, path, token, "").StatusCode }

	nobody := b.token(t, "", "", "repository:a.io/public:pull", priv)
	if nobody.status != 200 || nobody.Token == "" || nobody.Token != nobody.AccessToken || nobody.ExpiresIn != 300 {
		t.Fatalf("anonymous token: %+v", nobody)
	}
	alice := b.token(t, "alice", "wonder", priv)
	for _, tt := range []struct {
		name, path, token string
		want              int
	}{
		{"nobody at the door", "/v2/", nobody.Token, 200},
		{"nobody, public", "/v2/a.io/public/pull", nobody.Token, 200},
		{"nobody, other public", "/v2/a.io/other/pull", nobody.Token, 200},
		{"nobody, private", "/v2/a.io/private/x/pull", nobody.Token, 401},
		{"alice at the door", "/v2/", alice.Token, 200},
		{"alice, private", "/v2/a.io/private/x/pull", alice.Token, 200},
		{"alice, private by short name", "/v2/private/x/pull", alice.Token, 200},
		{"alice, another one that she may", "/v2/a.io/private/y/pull", alice.Token, 401},
		{"alice, one that she may not", "/v2/local/team/x/push", alice.Token, 403},
		{"alice, what everybody may", "/v2/a.io/public/pull", alice.Token, 200},
	} {
		if got := status(tt.path, tt.token); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := b.get(t, "/v2/a.io/private/y/pull", alice.Token, "").Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope"`) {
		t.Errorf("challenge %q, want insufficient_scope", got)
	}
	if wrong := b.token(t, "alice", "wrong", priv); wrong.status != 401 || !strings.HasPrefix(wrong.challenge, "Basic ") {
		t.Errorf("token for a wrong password: %+v", wrong)
	}
	if got := b.token(t, "", "").status; got != 200 {
		t.Errorf("token without a scope: %d", got)
	}

	b.clock.advance(tokenTTL + time.Second)
	if got := status("/v2/a.io/private/x/pull", alice.Token); got != 401 {
		t.Errorf("an expired token: %d, want 401", got)
	}

	t.Run("a rule that changed counts at once", func(t *testing.T) {
		alice := b.token(t, "alice", "wonder", priv)
		p := mixed()
		p.Passwords = b.a.policy.Load().Passwords
		p.Rules[0].Pull = []string{"bob"}
		b.a.Apply(p)
		if got := status("/v2/a.io/private/x/pull", alice.Token); got != 403 {
			t.Errorf("%d, want 403", got)
		}
		p.Rules[0].Pull = []string{"alice"}
		b.a.Apply(p)
	})
	t.Run("a password that changed ends tokens", func(t *testing.T) {
		alice := b.token(t, "alice", "wonder", priv)
		if got := status("/v2/a.io/private/x/pull", alice.Token); got != 200 {
			t.Errorf("before: %d, want 200", got)
		}
		writePasswords(t, b.file, map[string]string{"alice": "other", "bob": "builder", "carol": "c"})
		b.clock.advance(lookAgain)
		if got := status("/v2/a.io/private/x/pull", alice.Token); got != 401 {
			t.Errorf("%d, want 401", got)
		}
		if got := b.get(t, "/v2/a.io/private/x/pull", "alice", "wonder").StatusCode; got != 401 {
			t.Errorf("the old password: %d, want 401", got)
		}
		if got := b.get(t, "/v2/a.io/private/x/pull", "alice", "other").StatusCode; got != 200 {
			t.Errorf("the new password: %d, want 200", got)
		}
	})
}

// TestScopesAreCanonical: a token is for a repository of one upstream, however
// it was asked for, and a name without one means the default.
func TestScopesAreCanonical(t *testing.T) {
	b := newBench(t, mixed())
	for _, tt := range []struct {
		host, scope, want string
	}{
		{"", "repository:a.io/private/x:pull", "a.io/private/x pull"},
		{"", "repository:private/x:pull", "a.io/private/x pull"},
		{"b.example", "repository:private/x:pull", "b.io/private/x pull"},
		{"b.example", "repository:a.io/private/x:pull", "a.io/private/x pull"},
		{"", "repository:b.io/x:pull,push", "b.io/x pull"},
		{"", "repository:local/o:*", "local/o pull push"},
		{"", "repository:local/o:push,pull repository:local/team/x:pull", "local/o pull push local/team/x pull"},
		{"", "repository(plugin):local/o:pull", "local/o pull"},
		{"", "registry:catalog:*", "catalog *"},
		{"", "registry:catalog:read", ""},
		{"", "registry:other:*", ""},
		{"", "repository:z.io/x:pull", ""},
		{"", "repository:UPPER/x:pull", ""},
		{"", "repository:local/../a.io/x:pull", ""},
		{"", "repository:localhost:5000/x:pull", ""},
		{"", "repository:local/nobody:pull", ""},
	} {
		t.Run(tt.host+" "+tt.scope, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+"/token?"+url.Values{"scope": {tt.scope}}.Encode(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if req.SetBasicAuth("alice", "wonder"); tt.host != "" {
				req.Host = tt.host
			}
			a := b.tokenDo(t, req)
			if a.status != 200 {
				t.Fatalf("status %d", a.status)
			}
			c, err := b.a.opt.Keys.open(a.Token, registryToken, b.clock.now())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, g := range c.Access {
				got = append(append(got, g.Name), g.Actions...)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
	if got := b.token(t, "alice", "wonder", "nonsense").status; got != http.StatusBadRequest {
		t.Errorf("a malformed scope: %d, want 400", got)
	}
}

// TestTokenByForm is the way of docker and containerd.
func TestTokenByForm(t *testing.T) {
	b := newBench(t, mixed())
	for _, tt := range []struct {
		name string
		form url.Values
		want int
	}{
		{"right", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonder"}, "service": {service}, "client_id": {"docker"},
			"access_type": {"offline"}, "scope": {"repository:a.io/private/x:pull repository:a.io/public:pull"}}, 200},
		{"wrong", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"x"}}, 401},
		{"no user", url.Values{"grant_type": {"password"}}, 400},
		{"a refresh token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, 401},
		{"another grant", url.Values{"grant_type": {"client_credentials"}}, 400},
		{"nothing", nil, 400},
		{"a bad scope", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonder"}, "scope": {"x"}}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL+"/token", strings.NewReader(tt.form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			a := b.tokenDo(t, req)
			if a.status != tt.want {
				t.Fatalf("status %d, want %d", a.status, tt.want)
			}
			if tt.want == 200 && b.get(t, "/v2/a.io/private/x/pull", a.AccessToken, "").StatusCode != 200 {
				t.Error("the token does not work")
			}
		})
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, b.URL+"/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := b.tokenDo(t, req); a.status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d, want 405", a.status)
	}
}

func TestRealm(t *testing.T) {
	b := newBench(t, mixed())
	for _, tt := range []struct{ service, host, forwarded, want string }{
		{"", "x.example:5000", "", "http://x.example:5000/token"},
		{"", "x.example", "https", "https://x.example/token"},
		{"https://y.example", "x.example:5000", "", "https://y.example/token"},
	} {
		p := mixed()
		p.Service = tt.service
		b.a.Apply(p)
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.Host = tt.host
		r.Header.Set("X-Forwarded-Proto", tt.forwarded)
		if got := b.a.realm(r); got != tt.want {
			t.Errorf("realm = %q, want %q", got, tt.want)
		}
	}
}
