package upstream

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestCheckRealm(t *testing.T) {
	for _, tc := range []struct {
		root, realm     string
		listed          []string
		anonymous, auth bool // may it be asked without, and with credentials
	}{
		{root: "https://registry-1.docker.io", realm: "https://auth.docker.io/token", anonymous: true, auth: true},
		{root: "https://quay.io", realm: "https://quay.io/v2/auth", anonymous: true, auth: true},
		{root: "https://quay.io", realm: "https://QUAY.io:443/v2/auth", anonymous: true, auth: true},
		{root: "https://quay.io", realm: "http://quay.io/v2/auth"},
		{root: "https://quay.io", realm: "https://evil.example/token", anonymous: true},
		{root: "https://quay.io", realm: "https://evil.example/token", listed: []string{"evil.example"}, anonymous: true, auth: true},
		{root: "https://quay.io", realm: "https://evil.example/token", listed: []string{"evil.example:443"}, anonymous: true, auth: true},
		{root: "https://quay.io", realm: "https://evil.example:8443/token", listed: []string{"evil.example:443"}, anonymous: true},
		{root: "https://quay.io", realm: "http://evil.example/token", listed: []string{"evil.example"}},
		{root: "https://quay.io", realm: "https://quay.io.evil.example/token", anonymous: true},
		{root: "https://quay.io", realm: "https://evilquay.io/token", anonymous: true},
		{root: "https://quay.io", realm: "https://user@quay.io/token"},
		{root: "https://quay.io", realm: ""},
		{root: "https://quay.io", realm: "/token"},
		{root: "https://quay.io", realm: "file:///etc/passwd"},
		{root: "https://quay.io", realm: "https://%zz/"},
		// Public suffixes under which anybody can register.
		{root: "https://a.github.io", realm: "https://b.github.io/token", anonymous: true},
		{root: "https://a.example.co.uk", realm: "https://b.example.co.uk/token", anonymous: true, auth: true},
		{root: "https://a.co.uk", realm: "https://b.co.uk/token", anonymous: true},
		{root: "https://co.uk", realm: "https://b.co.uk/token", anonymous: true},
		// Addresses and single names are their own domain.
		{root: "https://10.0.0.1", realm: "https://10.0.0.1:8443/token", anonymous: true, auth: true},
		{root: "https://10.0.0.1", realm: "https://20.0.0.1/token", anonymous: true},
		{root: "https://[fd00::1]:5000", realm: "https://[fd00::1]/token", anonymous: true, auth: true},
		{root: "https://registry", realm: "https://auth/token", anonymous: true},
		{root: "https://registry.", realm: "https://registry/token", anonymous: true, auth: true},
		// An upstream on plain HTTP.
		{root: "http://127.0.0.1:5000", realm: "http://127.0.0.1:5001/token", anonymous: true, auth: true},
		{root: "http://registry.corp.example", realm: "http://auth.corp.example/token", anonymous: true},
		{root: "http://registry.corp.example", realm: "http://auth.corp.example/token", listed: []string{"auth.corp.example"}, anonymous: true, auth: true},
		{root: "http://registry.corp.example", realm: "https://auth.corp.example/token", anonymous: true, auth: true},
	} {
		root, err := url.Parse(tc.root)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{
			{Name: "test", URL: root, TokenRealms: tc.listed},
			{Name: "test", URL: root, TokenRealms: tc.listed, Username: "robot", Password: "secret"},
		} {
			want := tc.anonymous
			if o.Username != "" {
				want = tc.auth
			}
			u, err := newAuthorizer(o, nil, nil).checkRealm(tc.realm, o.credentials())
			if (err == nil) != want || (err == nil && u.String() != tc.realm) || (err != nil && !is[*PolicyError](err)) {
				t.Errorf("%s names %q, listed %v, credentials %v: got %v, want allowed %v",
					tc.root, tc.realm, tc.listed, o.Username != "", err, want)
			}
		}
	}
}

// A registry that names a stranger for its token service learns no password.
func TestStrangeRealmGetsNothing(t *testing.T) {
	ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
	guarded(reg, ts)
	ts.URL = strings.Replace(ts.URL, "127.0.0.1", "localhost", 1) // another host, whatever it resolves to
	c := newClient(t, reg.URL, credentials("robot", "secret"))
	_, err := c.Manifest(t.Context(), repo, tag("v1"))
	if !is[*PolicyError](err) || !IsUnavailable(err) || !strings.Contains(err.Error(), "token_realms") {
		t.Errorf("got %v", err)
	}
	if n := ts.issued.Load(); n != 0 {
		t.Errorf("the stranger was asked %d times", n)
	}
	c = newClient(t, reg.URL, credentials("robot", "secret"), func(o *Options) { o.TokenRealms = []string{"localhost"} })
	ts.user, ts.password = "robot", "secret"
	if _, err = c.Manifest(t.Context(), repo, tag("v1")); !IsNotFound(err) {
		t.Errorf("listed, it got %v", err)
	}
}

func FuzzCheckRealm(f *testing.F) {
	f.Add(`Bearer realm="https://auth.quay.io/token",service="quay.io"`, true)
	f.Add(`Bearer realm="http://quay.io/token",scope="repository:x:pull"`, false)
	f.Add(`Basic realm="x", Bearer realm="//[::1"`, true)
	root := &url.URL{Scheme: "https", Host: "quay.io"}
	f.Fuzz(func(t *testing.T, header string, auth bool) {
		o := Options{Name: "test", URL: root}
		if auth {
			o.Username, o.Password = "robot", "secret"
		}
		a := newAuthorizer(o, nil, nil)
		ch, err := a.parse(t.Context(), http.Header{"Www-Authenticate": {header}})
		if err != nil {
			t.Fatal(err)
		}
		u, err := a.checkRealm(ch.Parameters["realm"], a.creds)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.Host == "" {
			t.Errorf("%q leads to %s", header, u)
		}
		if h := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); auth && h != "quay.io" && !strings.HasSuffix(h, ".quay.io") {
			t.Errorf("%q leads the credentials to %s", header, u)
		}
	})
}
