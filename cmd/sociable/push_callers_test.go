package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// scopedRegistry is an upstream whose tokens are for what was asked: alice may
// push, bob may pull. It can forget tokens.
type scopedRegistry struct {
	*httptest.Server
	inner http.Handler

	mu    sync.Mutex
	turn  int      // tokens of another one are not taken
	wrote []string // who wrote what
}

func newScopedRegistry(t *testing.T) *scopedRegistry {
	t.Helper()
	g := &scopedRegistry{inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *scopedRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	turn := g.turn
	g.mu.Unlock()
	if r.URL.Path == "/token" {
		user, password, ok := r.BasicAuth()
		if ok && (password != "of "+user || user != "alice" && user != "bob") {
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`, http.StatusUnauthorized)
			return
		}
		may := "pull"
		if scope := strings.Join(r.URL.Query()["scope"], " "); user == "alice" && strings.Contains(scope, "push") {
			may = "push"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": fmt.Sprintf("%d.%s.%s", turn, may, user), "expires_in": 300})
		return
	}
	token := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if len(token) != 3 || token[0] != fmt.Sprint(turn) || token[2] == "" && r.URL.Path != "/v2/" || writes && token[1] != "push" {
		_, _ = io.Copy(io.Discard, r.Body)
		challenge := fmt.Sprintf(`Bearer realm=%q,service="up"`, g.URL+"/token")
		if repo, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/"); ok || writes {
			repo, _, _ = strings.Cut(repo, "/manifests/")
			challenge += fmt.Sprintf(`,scope="repository:%s:%s"`, repo, map[bool]string{false: "pull", true: "pull,push"}[writes])
		}
		w.Header().Set("WWW-Authenticate", challenge)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who"}]}`, http.StatusUnauthorized)
		return
	}
	if writes {
		g.mu.Lock()
		g.wrote = append(g.wrote, r.Method+" "+token[2])
		g.mu.Unlock()
	}
	g.inner.ServeHTTP(w, r)
}

// TestPushInCallersNames: a real client's push goes through in its own name, with
// a token that the upstream gave it for that, or with our credentials where these
// are configured and a rule lets it.
func TestPushInCallersNames(t *testing.T) {
	img, err := random.Image(300_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	basic := func(user, password string) authn.Authenticator {
		return &authn.Basic{Username: user, Password: password}
	}
	push := func(t *testing.T, s *server, repo string, auth authn.Authenticator) error {
		t.Helper()
		ref, err := name.NewTag(s.addr+"/"+repo, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return remote.Write(ref, img, remote.WithAuth(auth), remote.WithContext(t.Context()))
	}
	for _, tt := range []struct{ name, config string }{
		{"the caller's", "upstreams: {up: {url: %q, access: passthrough, push: allow}}\n"},
		{"ours", `
upstreams: {up: {url: %q, username: alice, password: of alice, push: allow}}
auth: {htpasswd_file: %s, rules: [{repositories: ["up/**"], pull: [authenticated], push: [alice]}]}
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newScopedRegistry(t)
			dir := t.TempDir()
			users := filepath.Join(dir, "users")
			putFile(t, users, htpasswdLine(t, "alice", "of alice")+htpasswdLine(t, "bob", "of bob"))
			config := tt.config
			if strings.Count(config, "%") == 2 {
				config = fmt.Sprintf(config, g.URL, users)
			} else {
				config = fmt.Sprintf(config, g.URL)
			}
			putFile(t, filepath.Join(dir, "config.yml"), config)
			s := startServer(t, "--config", filepath.Join(dir, "config.yml"))
			for who, auth := range map[string]authn.Authenticator{
				"nobody": authn.Anonymous, "bob": basic("bob", "of bob"), "a wrong password": basic("alice", "x"),
			} {
				if err := push(t, s, "up/team/app:1", auth); err == nil {
					t.Errorf("%s may push", who)
				}
			}
			if len(g.wrote) != 0 {
				t.Errorf("written at the upstream: %q", g.wrote)
			}
			if err := push(t, s, "up/team/app:1", basic("alice", "of alice")); err != nil {
				t.Fatalf("alice: %v", err)
			}
			for _, w := range g.wrote {
				if !strings.HasSuffix(w, " alice") {
					t.Errorf("written by another: %s", w)
				}
			}
			if err := pullAll(t, s.addr, "up/team/app:1", basic("bob", "of bob")); err != nil {
				t.Errorf("bob pulls what was pushed: %v", err)
			}
			if err := pullAll(t, s.addr, "up/team/app:1", authn.Anonymous); err == nil {
				t.Error("nobody pulls what was pushed")
			}
			// A token that the upstream has forgotten: the client logs in again.
			g.mu.Lock()
			g.turn++
			g.mu.Unlock()
			err := push(t, s, "up/team/app:2", basic("alice", "of alice"))
			if err != nil { // in the caller's name, the first try tells the client
				err = push(t, s, "up/team/app:2", basic("alice", "of alice"))
			}
			if err != nil {
				t.Errorf("alice, after the upstream forgot its tokens: %v", err)
			}
		})
	}
}
