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

func TestUnguarded(t *testing.T) {
	b := newBench(t, Policy{Unguarded: true})
	for _, path := range []string{"/v2/", "/v2/a.io/x/pull", "/v2/local/x/push", "/v2/local/x/delete"} {
		if got := b.get(t, path, "", "").StatusCode; got != 200 {
			t.Errorf("%s: %d, want 200", path, got)
		}
	}
}
