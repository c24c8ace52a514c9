package access

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"net/http/httptest"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/internal/oci"
)

// fakeUpstreams lets alice in, everywhere, and everybody at a.io/pub.
type fakeUpstreams struct {
	mu    sync.Mutex
	asked []string
	down  bool
	shut  bool // nobody may
	now   func() time.Time
}

// sessionLife is how long a login at an upstream is good.
const sessionLife = 5 * time.Minute

type fakeSession struct {
	user  string
	until time.Time
	not   string // the repository that it is no good for
}

func (s *fakeSession) Until(repo string) time.Time {
	if repo != "" && repo == s.not {
		return time.Time{}
	}
	return s.until
}

var errDown = errors.New("down")

func (f *fakeUpstreams) Login(_ context.Context, upstream string, _ Session, user, password, repo string) (Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, "login "+user+" "+strings.TrimSuffix(upstream+"/"+repo, "/"))
	switch {
	case f.down:
		return nil, errDown
	case user != "alice" || password != "wonder":
		return nil, ErrRefused
	}
	if f.now == nil {
		f.now = time.Now
	}
	return &fakeSession{user: user, until: f.now().Add(sessionLife)}, nil
}

func (f *fakeUpstreams) Check(_ context.Context, s Session, repo oci.Repo, kind, ref string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	user := "nobody"
	if x, ok := s.(*fakeSession); ok {
		user = x.user
	}
	f.asked = append(f.asked, strings.TrimSpace("check "+user+" "+repo.String()+" "+kind+" "+ref))
	switch {
	case f.down:
		return errDown
	case f.shut:
		return ErrRefused
	case strings.HasSuffix(repo.Name, "none"):
		return ErrUnknown
	case user == "alice", repo.String() == "a.io/pub":
		return nil
	}
	return ErrRefused
}

func (f *fakeUpstreams) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.asked
	f.asked = nil
	return a
}

func (f *fakeUpstreams) set(down, shut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.shut = down, shut
}

// newPassBench has passthrough to a.io, the default, and b.io; local is ours.
func newPassBench(t testing.TB) (*bench, *fakeUpstreams) {
	t.Helper()
	f := &fakeUpstreams{}
	b := newBench(t, Policy{
		Rules:     []Rule{{Repositories: []string{"local/**"}, Pull: []string{"bob"}}},
		Upstreams: map[string]Mode{"a.io": Passthrough, "b.io": Passthrough, "local": Closed},
	})
	users := b.a.policy.Load().Policy
	writePasswords(t, b.file, map[string]string{"bob": "builder"})
	keys, err := OpenKeys(filepath.Join(t.TempDir(), "keys"), nil, b.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	if users.Passwords, err = OpenPasswords(b.file, nil); err != nil {
		t.Fatal(err)
	}
	f.now = b.clock.now
	a := New(Options{Keys: keys, Now: b.clock.now, Resolve: resolve, Upstreams: f}, users)
	b.a = a
	b.Close()
	b.Server = httptest.NewServer(a.Handler(oci.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
		if name == "" {
			return a.Enter(r)
		}
		repo, err := resolve(r.Host, name)
		if err != nil {
			return err
		}
		return a.May(r, repo, oci.ActionPull)
	})))
	t.Cleanup(b.Close)
	return b, f
}

func TestPassthroughIsAskedAndRemembered(t *testing.T) {
	b, f := newPassBench(t)
	for _, step := range []struct {
		name, path, user, password string
		before                     func()
		want                       int
		asked                      []string
	}{
		{name: "nobody, public", path: "/v2/a.io/pub/manifests/1", want: 200, asked: []string{"check nobody a.io/pub manifests 1"}},
		{name: "again, another tag", path: "/v2/pub/manifests/2", want: 200},
		{name: "nobody, private", path: "/v2/a.io/x/manifests/1", want: 401, asked: []string{"check nobody a.io/x manifests 1"}},
		{name: "refused again", path: "/v2/a.io/x/manifests/1", want: 401},
		{name: "alice", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 200,
			asked: []string{"login alice a.io/x", "check alice a.io/x manifests 1"}},
		{name: "alice again", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 200},
		{name: "a wrong password", path: "/v2/a.io/x/manifests/1", user: "alice", password: "x", want: 401, asked: []string{"login alice a.io/x", "login alice a.io"}},
		{name: "wrong again", path: "/v2/a.io/x/manifests/1", user: "alice", password: "x", want: 401},
		{name: "one of ours is nobody there", path: "/v2/a.io/y/manifests/1", user: "bob", password: "builder", want: 403, asked: []string{"check nobody a.io/y manifests 1"}},
		{name: "one of ours, public", path: "/v2/a.io/pub/manifests/1", user: "bob", password: "builder", want: 200},
		{name: "alice is nobody here", path: "/v2/local/x/manifests/1", user: "alice", password: "wonder", want: 401},
		{name: "not there", path: "/v2/a.io/none/manifests/1", user: "alice", password: "wonder", want: 404,
			asked: []string{"check alice a.io/none manifests 1"}},
		{name: "the word is old", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 200,
			before: func() { b.clock.advance(mayTTL) }, asked: []string{"login alice a.io/x", "check alice a.io/x manifests 1"}},
		{name: "down, but known and logged in", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 200,
			before: func() { f.set(true, false) }},
		{name: "down, and the login is over", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 200,
			before: func() { b.clock.advance(mayGrace - 1) }, asked: []string{"login alice a.io/x"}},
		{name: "nobody waits for the next try", path: "/v2/a.io/x/manifests/2", user: "alice", password: "wonder", want: 200},
		{name: "down for too long", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 503,
			before: func() { b.clock.advance(1) }, asked: []string{"login alice a.io/x"}},
		{name: "down, and not known", path: "/v2/a.io/z/manifests/1", user: "alice", password: "wonder", want: 503, asked: []string{"login alice a.io/z"}},
		{name: "shut", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 401,
			before: func() { f.set(false, true) }, asked: []string{"login alice a.io/x", "check alice a.io/x manifests 1"}},
		{name: "open again, a moment later", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 401, before: func() { f.set(false, false) }},
		{name: "and after that", path: "/v2/a.io/x/manifests/1", user: "alice", password: "wonder", want: 200,
			before: func() { b.clock.advance(mayNotTTL) }, asked: []string{"check alice a.io/x manifests 1"}},
	} {
		if step.before != nil {
			step.before()
		}
		if got := b.get(t, step.path, step.user, step.password).StatusCode; got != step.want {
			t.Errorf("%s: %d, want %d", step.name, got, step.want)
		}
		if diff := cmp.Diff(step.asked, f.take()); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestCredentialsGoWhereTheyAreMeant: clients ask for a name in two spellings;
// credentials for one upstream never reach another by that.
func TestCredentialsGoWhereTheyAreMeant(t *testing.T) {
	for _, tt := range []struct {
		name   string
		scopes []string
		asked  []string
	}{
		{"named", []string{"repository:b.io/x:pull"}, []string{"login alice b.io/x"}},
		{"the default", []string{"repository:x:pull"}, []string{"login alice a.io/x"}},
		{"both spellings", []string{"repository:x:pull", "repository:b.io/x:pull"}, []string{"login alice b.io/x"}},
		{"no scope", nil, []string{"login alice a.io"}},
		{"ours", []string{"repository:local/x:pull"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, f := newPassBench(t)
			a := b.token(t, "alice", "wonder", tt.scopes...)
			if a.status != 200 {
				t.Errorf("status %d", a.status)
			}
			if diff := cmp.Diff(tt.asked, f.take()); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if strings.Contains(a.Token, "wonder") {
				t.Error("the token has the password")
			}
		})
	}
}

// TestPassthroughTokens: what a token stands for is known here alone, and is for
// what it names.
func TestPassthroughTokens(t *testing.T) {
	b, f := newPassBench(t)
	alice := b.token(t, "alice", "wonder", "repository:a.io/x:pull")
	for _, tt := range []struct {
		path string
		want int
	}{{"/v2/", 200}, {"/v2/a.io/x/manifests/1", 200}, {"/v2/a.io/y/manifests/1", 401}, {"/v2/b.io/x/manifests/1", 401}} {
		if got := b.get(t, tt.path, alice.Token, "").StatusCode; got != tt.want {
			t.Errorf("%s: %d, want %d", tt.path, got, tt.want)
		}
	}
	if got := b.token(t, "alice", "wrong", "repository:a.io/x:pull").status; got != 401 {
		t.Errorf("a wrong password: %d, want 401", got)
	}
	if got := b.token(t, "", "", "repository:a.io/pub:pull"); got.status != 200 || b.get(t, "/v2/a.io/pub/manifests/1", got.Token, "").StatusCode != 200 {
		t.Errorf("nobody's token for what is public: %d", got.status)
	}
	b.a.pass = newPassthrough(f) // as after a restart
	if resp := b.get(t, "/v2/a.io/x/manifests/1", alice.Token, ""); resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("after a restart: %s, %s", resp.Status, resp.Header.Get("WWW-Authenticate"))
	}
	for i := range freeTries { // one wrong password was sent above
		want := 401
		if i == freeTries-1 {
			want = 429
		}
		if got := b.token(t, "alice", "guess"+string(rune('a'+i)), "repository:a.io/x:pull").status; got != want {
			t.Errorf("guess %d: %d, want %d", i, got, want)
		}
	}
}

// TestPassthroughTokensWhileAway: who was let in by a token goes on pulling while
// the upstream is away, and logs in anew when that is back.
func TestPassthroughTokensWhileAway(t *testing.T) {
	b, f := newPassBench(t)
	scope := "repository:a.io/x:pull"
	get := func(path, token string, want int) {
		t.Helper()
		if got := b.get(t, path, token, "").StatusCode; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	get("/v2/a.io/x/manifests/1", b.token(t, "alice", "wonder", scope).Token, 200)
	f.set(true, false)
	b.clock.advance(mayGrace - time.Minute)
	away := b.token(t, "alice", "wonder", scope)
	if away.status != 200 {
		t.Fatalf("a token while the upstream is away: %d", away.status)
	}
	get("/v2/a.io/x/manifests/1", away.Token, 200)
	get("/v2/a.io/y/manifests/1", away.Token, 401) // the token is not for it
	if got := b.token(t, "alice", "guess", scope).status; got != 503 {
		t.Errorf("another password: %d, want 503", got)
	}
	if got := b.token(t, "alice", "wonder", "repository:a.io/y:pull").status; got != 503 {
		t.Errorf("what she was not let into: %d, want 503", got)
	}
	b.clock.advance(awayTTL)
	get("/v2/a.io/x/manifests/1", away.Token, 401) // it is short-lived
	f.set(false, false)
	back := b.token(t, "alice", "wonder", scope)
	get("/v2/a.io/x/manifests/1", back.Token, 200)
	if got := b.token(t, "alice", "guess", scope).status; got != 401 {
		t.Errorf("a wrong password when it is back: %d, want 401", got)
	}
}
