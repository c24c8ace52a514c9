package access

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"golang.org/x/crypto/bcrypt"

	"github.com/sociable/sociable/internal/oci"
)

// clock is a time that tests move.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// bench is an Access in front of a handler that does what the registry would:
// /v2/ asks Enter, /v2/NAME/ACTION asks May.
type bench struct {
	*httptest.Server
	a     *Access
	clock *clock
	file  string // htpasswd
}

var users = map[string]string{"alice": "wonder", "bob": "builder"}

func writePasswords(t testing.TB, file string, users map[string]string) {
	t.Helper()
	var b strings.Builder
	for u, p := range users {
		h, err := bcrypt.GenerateFromPassword([]byte(p), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(u + ":" + string(h) + "\n")
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newBench(t testing.TB, p Policy) *bench {
	t.Helper()
	b := &bench{clock: newClock(), file: filepath.Join(t.TempDir(), "htpasswd")}
	writePasswords(t, b.file, users)
	keys, err := OpenKeys(filepath.Join(t.TempDir(), "keys"), nil, b.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	if p.Passwords, err = OpenPasswords(b.file, nil); err != nil {
		t.Fatal(err)
	}
	b.a = New(Options{Keys: keys, Now: b.clock.now, Resolve: resolve}, p)
	b.Server = httptest.NewServer(b.a.Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		path := strings.TrimPrefix(r.URL.Path, "/v2/")
		if path == "" {
			return b.a.Enter(r)
		}
		i := strings.LastIndex(path, "/")
		repo, err := resolve(r.Host, path[:i])
		if err != nil {
			return err
		}
		return b.a.May(r, repo, oci.Action(path[i+1:]))
	})))
	t.Cleanup(b.Close)
	return b
}

// resolve knows the upstreams a.io, the default, b.io, and local.
func resolve(host, name string) (oci.Repo, error) {
	first, rest, _ := strings.Cut(name, "/")
	switch {
	case first == "a.io" || first == "b.io" || first == "local":
		return oci.Repo{Upstream: first, Name: rest}, nil
	case host == "b.example":
		return oci.Repo{Upstream: "b.io", Name: name}, nil
	case strings.Contains(first, "."):
		return oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown, "no upstream %q", first)
	default:
		return oci.Repo{Upstream: "a.io", Name: name}, nil
	}
}

// get asks with a user and password, or, where that is "", a bearer token.
func (b *bench) get(t testing.TB, path, user, password string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case user != "" && password != "":
		req.SetBasicAuth(user, password)
	case user != "":
		req.Header.Set("Authorization", "Bearer "+user)
	}
	resp, err := b.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	status      int
	challenge   string
}

// token asks for one, for scopes.
func (b *bench) token(t testing.TB, user, password string, scopes ...string) tokenAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		b.URL+"/token?"+url.Values{"service": {service}, "scope": scopes}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	return b.tokenDo(t, req)
}

func (b *bench) tokenDo(t testing.TB, req *http.Request) (a tokenAnswer) {
	t.Helper()
	resp, err := b.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a.status, a.challenge = resp.StatusCode, resp.Header.Get("WWW-Authenticate")
	if a.status == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// mixed is a policy with something of each.
func mixed() Policy {
	return Policy{
		Groups: []Group{{Name: "ops", Users: []string{"bob"}}},
		Rules: []Rule{
			{Repositories: []string{"a.io/private/**"}, Exclude: []string{"a.io/private/free"}, Pull: []string{"alice"}},
			{Repositories: []string{"local/team/**"}, Pull: []string{Authenticated}, Push: []string{"@ops"}, Delete: []string{"@ops", "carol"}},
			{Repositories: []string{"local/nobody"}},
			{Repositories: []string{"local/**"}, Pull: []string{Anonymous}, Push: []string{"alice"}},
		},
		Upstreams: map[string]Mode{"a.io": Open, "b.io": Closed, "local": Closed},
	}
}

func TestRules(t *testing.T) {
	const anybody = "- alice bob"
	for _, tt := range []struct{ repo, action, may string }{
		{"a.io/public", "pull", anybody},
		{"a.io/public", "push", ""},
		{"a.io/public", "delete", ""},
		{"a.io/private/x", "pull", "alice"},
		{"a.io/private/x/y", "pull", "alice"},
		{"a.io/private/free", "pull", anybody},
		{"a.io/private/x", "push", ""},
		{"b.io/x", "pull", "alice bob"},
		{"b.io/x", "push", ""},
		{"c.io/x", "pull", "alice bob"},
		{"local/team/x", "pull", "alice bob"},
		{"local/team/x", "push", "bob"},
		{"local/team/x", "delete", "bob"},
		{"local/nobody", "pull", ""},
		{"local/other", "pull", anybody},
		{"local/other", "push", "alice"},
		{"local/other", "delete", ""},
		{"local/other", "administer", ""},
		{"local/other", "no such thing", ""},
	} {
		t.Run(tt.repo+" "+tt.action, func(t *testing.T) {
			p := newPolicy(mixed())
			repo, err := oci.ParseRepo(tt.repo)
			if err != nil {
				t.Fatal(err)
			}
			var may []string
			for _, u := range []string{"", "alice", "bob"} {
				if !p.allows(Identity{Name: u, Via: ViaPassword}, repo, oci.Action(tt.action)) {
					continue
				}
				if u == "" {
					u = "-"
				}
				may = append(may, u)
			}
			if got := strings.Join(may, " "); got != tt.may {
				t.Errorf("%q may, want %q", got, tt.may)
			}
		})
	}
}

// TestNamesAreNotWords: a user cannot be taken for a word that means many, nor
// somebody whom we did not identify for a user.
func TestNamesAreNotWords(t *testing.T) {
	m := newMembership([]Group{{Name: "ops", Users: []string{"bob"}}})
	for _, tt := range []struct {
		who  string
		id   Identity
		want bool
	}{
		{"@ops", Identity{Name: "@ops", Via: ViaPassword}, false},
		{"@", Identity{Name: "x", Groups: []string{""}, Via: ViaPassword}, false},
		{"@dev", Identity{Name: "x", Groups: []string{"dev"}, Via: ViaCertificate}, true},
		{"bob", Identity{Name: "bob", Via: ViaUpstream}, false},
		{"@ops", Identity{Name: "bob", Via: ViaUpstream}, false},
		{Authenticated, Identity{Name: "bob", Via: ViaUpstream}, false},
		{Authenticated, Identity{Via: ViaNobody}, false},
		{Anonymous, Identity{Name: "bob", Via: ViaUpstream}, true},
		{"", Identity{Via: ViaNobody}, false},
	} {
		if got := m.names([]string{tt.who}, tt.id); got != tt.want {
			t.Errorf("%q names %+v: %v, want %v", tt.who, tt.id, got, tt.want)
		}
	}
}

func TestDecisions(t *testing.T) {
	b := newBench(t, mixed())
	for _, tt := range []struct {
		name, path, user, password string
		want                       int
		challenge                  string // a part of it
	}{
		{"who are you", "/v2/", "", "", 401, `Bearer realm="` + b.URL + `/token",service="sociable"`},
		{"somebody", "/v2/", "alice", "wonder", 200, ""},
		{"wrong password", "/v2/", "alice", "wrong", 401, "Bearer realm="},
		{"no such user", "/v2/", "mallory", "x", 401, "Bearer realm="},
		{"no token", "/v2/", "not.a.token", "", 401, `error="invalid_token"`},
		{"public, nobody", "/v2/a.io/public/pull", "", "", 200, ""},
		{"public, somebody", "/v2/a.io/public/pull", "bob", "builder", 200, ""},
		{"public, wrong password", "/v2/a.io/public/pull", "bob", "wrong", 401, "Bearer"},
		{"private, nobody", "/v2/a.io/private/x/pull", "", "", 401, `scope="repository:a.io/private/x:pull"`},
		{"private, by its short name", "/v2/private/x/pull", "", "", 401, `scope="repository:a.io/private/x:pull"`},
		{"private, the right one", "/v2/a.io/private/x/pull", "alice", "wonder", 200, ""},
		{"private, the wrong one", "/v2/a.io/private/x/pull", "bob", "builder", 403, ""},
		{"push, nobody", "/v2/local/team/x/push", "", "", 401, `scope="repository:local/team/x:pull,push"`},
		{"push, by group", "/v2/local/team/x/push", "bob", "builder", 200, ""},
		{"push, the wrong one", "/v2/local/team/x/push", "alice", "wonder", 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := b.get(t, tt.path, tt.user, tt.password)
			got := resp.Header.Get("WWW-Authenticate")
			if resp.StatusCode != tt.want || !strings.Contains(got, tt.challenge) || (tt.challenge == "") != (got == "") {
				t.Errorf("%s, WWW-Authenticate %q; want %d, %q", resp.Status, got, tt.want, tt.challenge)
			}
		})
	}
}

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
		{"", "registry:catalog:*", ""},
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

// TestPenalties: who guesses is slowed down, who knows is not.
func TestPenalties(t *testing.T) {
	b := newBench(t, mixed())
	right := func() int { return b.get(t, "/v2/", "alice", "wonder").StatusCode }
	guess := func(i int) *http.Response {
		return b.get(t, "/v2/", "alice", "guess"+string(rune('a'+i)))
	}
	if got := right(); got != 200 {
		t.Fatalf("%d, want 200", got)
	}
	for i := range freeTries {
		if got := guess(i).StatusCode; got != 401 {
			t.Fatalf("guess %d: %d, want 401", i, got)
		}
	}
	late := guess(10)
	if late.StatusCode != 429 || late.Header.Get("Retry-After") != "1" {
		t.Errorf("a guess too many: %s, Retry-After %q", late.Status, late.Header.Get("Retry-After"))
	}
	if got := right(); got != 200 {
		t.Errorf("who is known while others guess: %d, want 200", got)
	}
	for i := range freeTries { // right has cleared the count
		guess(11 + i)
	}
	b.clock.advance(time.Second)
	if got := guess(20).StatusCode; got != 401 {
		t.Errorf("after the pause: %d, want 401", got)
	}
	late = guess(21)
	if late.StatusCode != 429 || late.Header.Get("Retry-After") != "2" {
		t.Errorf("the next pause: %s, Retry-After %q", late.Status, late.Header.Get("Retry-After"))
	}
	if got := b.get(t, "/v2/", "bob", "builder").StatusCode; got != 200 {
		t.Errorf("another user from there: %d, want 200", got)
	}
	b.clock.advance(forgiven)
	if got := guess(22).StatusCode; got != 401 {
		t.Errorf("much later: %d, want 401", got)
	}
}

// TestPenaltiesAreBounded holds that a flood of names takes no more memory, and
// that an address from which many are tried is slowed down.
func TestPenaltiesAreBounded(t *testing.T) {
	p, now := newPenalties(), newClock().now()
	for i := range 3 * maxPenalties {
		p.wrong("192.0.2.1", "u"+string(rune(i)), now)
	}
	if got := p.tries.Len(); got > maxPenalties {
		t.Errorf("%d remembered", got)
	}
	if got := p.wait("192.0.2.1", "fresh", now); got != maxAddressPenalty {
		t.Errorf("the address waits %v, want %v", got, maxAddressPenalty)
	}
	if got := p.wait("192.0.2.2", "fresh", now); got != 0 {
		t.Errorf("another address waits %v", got)
	}
}

func TestClientAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:99": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "@": "@", "": "",
	} {
		if got := clientAddress(in); got != want {
			t.Errorf("clientAddress(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestComparedOnce: bcrypt is slow on purpose, and is spent once a password.
func TestComparedOnce(t *testing.T) {
	h, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	v, c := newVerifier(), newClock()
	for _, tt := range []struct {
		password string
		right    bool
		ttl      time.Duration
	}{{"p", true, rightTTL}, {"q", false, wrongTTL}} {
		if right, err := v.verify(t.Context(), "u", tt.password, string(h), c.now()); right != tt.right || err != nil {
			t.Fatalf("verify = %v, %v", right, err)
		}
		c.advance(tt.ttl - 1)
		if right, known := v.remembered("u", tt.password, string(h), c.now()); right != tt.right || !known {
			t.Errorf("%q is not remembered", tt.password)
		}
		c.advance(2)
		if right, known := v.remembered("u", tt.password, string(h), c.now()); right || known {
			t.Errorf("%q is remembered for too long", tt.password)
		}
	}
	if _, known := v.remembered("u", "p", "another hash", c.now()); known {
		t.Error("what is remembered is not bound to the hash")
	}
}

func TestPasswordFile(t *testing.T) {
	h, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	good := string(h)
	for name, tt := range map[string]struct{ text, want string }{
		"good":        {"# users\n\nalice:" + good + "\nbob:" + good, ""},
		"empty":       {"", ""},
		"no colon":    {"alice\n", "FILE:1: want USER:HASH, as htpasswd writes it"},
		"md5":         {"a:" + good + "\nb:$apr1$x$y\n", `FILE:2: the password of "b" is not a bcrypt hash; make one with htpasswd -B`},
		"plain":       {"b:secret\n", `FILE:1: the password of "b" is not a bcrypt hash; make one with htpasswd -B`},
		"twice":       {"a:" + good + "\na:" + good, `FILE:2: "a" is there twice`},
		"two at once": {"x\ny\n", "FILE:1: want USER:HASH, as htpasswd writes it\nFILE:2: want USER:HASH, as htpasswd writes it"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "htpasswd")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenPasswords(file, nil)
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), file, "FILE")
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHalfWrittenPasswordFile: what can't be read changes nothing.
func TestHalfWrittenPasswordFile(t *testing.T) {
	b := newBench(t, mixed())
	for _, broken := range []func() error{
		func() error { return os.WriteFile(b.file, []byte("alice:$2y$"), 0o600) },
		func() error { return os.Remove(b.file) },
	} {
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		b.clock.advance(lookAgain)
		if got := b.get(t, "/v2/", "bob", "builder").StatusCode; got != 200 {
			t.Errorf("%d, want 200", got)
		}
	}
	writePasswords(t, b.file, map[string]string{"carol": "c"})
	b.clock.advance(lookAgain)
	if got := b.get(t, "/v2/", "carol", "c").StatusCode; got != 200 {
		t.Errorf("a new user: %d, want 200", got)
	}
	if got := b.get(t, "/v2/", "bob", "builder").StatusCode; got != 401 {
		t.Errorf("a user that was removed: %d, want 401", got)
	}
}

func TestUnguarded(t *testing.T) {
	b := newBench(t, Policy{Unguarded: true})
	for _, path := range []string{"/v2/", "/v2/a.io/x/pull", "/v2/local/x/push", "/v2/local/x/delete"} {
		if got := b.get(t, path, "", "").StatusCode; got != 200 {
			t.Errorf("%s: %d, want 200", path, got)
		}
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
