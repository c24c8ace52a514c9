package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// privateRegistry is an upstream with a token service of its own: everybody may
// read below pub/, alice also below priv/.
type privateRegistry struct {
	*httptest.Server
	inner http.Handler

	mu    sync.Mutex
	has   map[string]string // digest → its repository; the registry inside has one set of blobs for all
	asked []string          // "HEAD /v2/priv/app/manifests/1 alice"
	down  bool
	life  int // of tokens, seconds
}

func newPrivateRegistry(t *testing.T) *privateRegistry {
	t.Helper()
	g := &privateRegistry{life: 300, has: map[string]string{}, inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *privateRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	down := g.down
	g.mu.Unlock()
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case r.Header.Get("X-Fill") != "":
		g.inner.ServeHTTP(w, r)
	case r.URL.Path == "/token":
		g.token(w, r)
	default:
		g.registry(w, r)
	}
}

func (g *privateRegistry) token(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if ok && (user != "alice" || password != "wonder") {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`, http.StatusUnauthorized)
		return
	}
	g.note("TOKEN " + user + " " + strings.Join(r.URL.Query()["scope"], " "))
	_ = json.NewEncoder(w).Encode(map[string]any{"token": "of-" + user, "expires_in": g.life})
}

func (g *privateRegistry) registry(w http.ResponseWriter, r *http.Request) {
	user, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer of-")
	if !ok || user == "" && !strings.HasPrefix(r.URL.Path, "/v2/pub/") && r.URL.Path != "/v2/" {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="up"`, g.URL+"/token"))
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who"}]}`, http.StatusUnauthorized)
		return
	}
	g.note(strings.TrimSpace(r.Method + " " + r.URL.Path + " " + user))
	if repo, d, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/"); ok && g.has[d] != repo {
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	g.inner.ServeHTTP(w, r)
}

func (g *privateRegistry) note(s string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, s)
}

// take is what was asked since the last time.
func (g *privateRegistry) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.asked
	g.asked = nil
	return a
}

func (g *privateRegistry) setDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

type fillTransport struct{}

func (fillTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Fill", "1")
	return http.DefaultTransport.RoundTrip(r)
}

func (g *privateRegistry) push(t *testing.T, repo string) v1.Image {
	t.Helper()
	img, err := random.Image(100_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(strings.TrimPrefix(g.URL, "http://")+"/"+repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithTransport(fillTransport{})); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	bare, _, _ := strings.Cut(repo, ":")
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		g.has[d.String()] = bare
	}
	cfg, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	g.has[cfg.String()] = bare
	return img
}

// pullAll pulls repo, blobs and all, from host as crane would.
func pullAll(t *testing.T, host, repo string, auth authn.Authenticator) error {
	t.Helper()
	ref, err := name.NewTag(host+"/"+repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithAuth(auth), remote.WithContext(t.Context()))
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		rc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func plainGet(t *testing.T, method, url string, auth func(*http.Request)) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if auth != nil {
		auth(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(io.LimitReader(resp.Body, 300)) // of a blob, the length does not matter
	return resp.StatusCode, b.Bytes()
}

// TestPassthrough: the upstream's word about a caller counts for what is cached,
// and the upstream is asked in that caller's name alone.
func TestPassthrough(t *testing.T) {
	g := newPrivateRegistry(t)
	priv := g.push(t, "priv/app:1")
	g.push(t, "pub/app:1")
	t.Setenv("SOCIABLE_UPSTREAMS_UP_ACCESS", "passthrough")
	s := startServer(t, "--upstream", "up="+g.URL)
	alice := &authn.Basic{Username: "alice", Password: "wonder"}

	if err := pullAll(t, s.addr, "up/pub/app:1", authn.Anonymous); err != nil {
		t.Errorf("public, nobody: %v", err)
	}
	if err := pullAll(t, s.addr, "up/priv/app:1", authn.Anonymous); err == nil || !strings.Contains(err.Error(), "UNAUTHORIZED") {
		t.Errorf("private, nobody: %v", err)
	}
	g.take()
	if err := pullAll(t, s.addr, "up/priv/app:1", alice); err != nil {
		t.Fatalf("private, alice: %v", err)
	}
	for _, a := range g.take() {
		if strings.Contains(a, "priv") && !strings.Contains(a, "alice") {
			t.Errorf("asked by nobody: %s", a)
		}
	}
	if err := pullAll(t, s.addr, "up/priv/app:1", alice); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, a := range g.take() {
		if !strings.HasPrefix(a, "TOKEN") {
			t.Errorf("the second pull asked: %s", a)
		}
	}
	for who, auth := range map[string]authn.Authenticator{
		"nobody": authn.Anonymous, "a wrong password": &authn.Basic{Username: "alice", Password: "x"}, "a stranger": &authn.Basic{Username: "bob", Password: "y"},
	} {
		if err := pullAll(t, s.addr, "up/priv/app:1", auth); err == nil {
			t.Errorf("%s can pull what is cached", who)
		}
	}
	layers, err := priv.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	basic := func(u, p string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(u, p) }
	}
	for _, tt := range []struct {
		name, path string
		auth       func(*http.Request)
		want       int
	}{
		{"by digest", "/v2/up/priv/app/blobs/" + d.String(), nil, 401},
		{"by digest, Basic", "/v2/up/priv/app/blobs/" + d.String(), basic("alice", "wonder"), 200},
		{"by digest, a wrong password", "/v2/up/priv/app/blobs/" + d.String(), basic("alice", "w"), 401},
		{"under a public name", "/v2/up/pub/app/blobs/" + d.String(), nil, 404},
		{"tags", "/v2/up/priv/app/tags/list", nil, 401},
		{"tags, Basic", "/v2/up/priv/app/tags/list", basic("alice", "wonder"), 200},
		{"nothing there", "/v2/up/priv/none/manifests/1", basic("alice", "wonder"), 404},
		{"push", "/v2/up/priv/app/manifests/1", basic("alice", "wonder"), 200},
	} {
		if got, body := plainGet(t, http.MethodGet, "http://"+s.addr+tt.path, tt.auth); got != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, got, body, tt.want)
		}
	}
	code, body := plainGet(t, http.MethodGet, "http://"+s.addr+"/token", basic("alice", "wrong"))
	if code != 401 {
		t.Errorf("docker login with a wrong password: %d %s", code, body)
	}
	if code, body = plainGet(t, http.MethodGet, "http://"+s.addr+"/token", basic("alice", "wonder")); code != 200 {
		t.Errorf("docker login: %d %s", code, body)
	}
	if strings.Contains(string(body), "wonder") {
		t.Error("the token tells the password")
	}
	g.setDown(true)
	if code, body := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/up/priv/app/blobs/"+d.String(), basic("alice", "wonder")); code != 200 {
		t.Errorf("cached, while the upstream is down: %d %s", code, body)
	}
}
