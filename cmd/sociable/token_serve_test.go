package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// tokenServer is one as the distribution project specifies it, with users of
// its own: alice may do everything below local/, everybody may pull local/pub/.
type tokenServer struct {
	*httptest.Server
	issuer string

	mu    sync.Mutex
	kid   string
	key   *ecdsa.PrivateKey
	asked []string
}

func newTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	s := &tokenServer{issuer: "their issuer"}
	s.rotate(t, "1")
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// rotate signs with a new key from now on.
func (s *tokenServer) rotate(t *testing.T, kid string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kid, s.key = kid, key
}

// keys are its keys as a set.
func (s *tokenServer) keys(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{KeyID: s.kid, Key: s.key.Public(), Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, ok := r.BasicAuth()
	if ok && (user != "alice" || password != "wonder") {
		http.Error(w, `{"details":"no such user"}`, http.StatusUnauthorized)
		return
	}
	type grant struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	grants := []grant{}
	for _, scope := range r.URL.Query()["scope"] {
		parts := strings.Split(scope, ":")
		if len(parts) != 3 {
			continue
		}
		s.asked = append(s.asked, scope)
		switch {
		case user == "alice" && strings.HasPrefix(parts[1], "local/"):
			grants = append(grants, grant{parts[0], parts[1], strings.Split(parts[2], ",")})
		case strings.HasPrefix(parts[1], "local/pub/"):
			grants = append(grants, grant{parts[0], parts[1], []string{"pull"}})
		}
	}
	now := time.Now()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": s.issuer, "aud": r.URL.Query().Get("service"), "sub": user, "access": grants,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	tok.Header["kid"] = s.kid
	raw, err := tok.SignedString(s.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": raw, "expires_in": 300})
}

// TestTokenServer: a real client pushes and pulls with the tokens of a token
// server that is not ours, which then signs with another key.
func TestTokenServer(t *testing.T) {
	ts := newTokenServer(t)
	up := newPrivateRegistry(t)
	up.push(t, "pub/app:1")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("keys.json"), ts.keys(t))
	putFile(t, at("config.yml"), fmt.Sprintf(`
upstreams: {up: {url: %q}}
auth:
  token_server: {realm: %q, service: registry of ours, issuer: their issuer, keys_file: %s}
`, up.URL, strings.Replace(ts.URL, "127.0.0.1", "localhost", 1)+"/token", at("keys.json"))) // the client takes no realm that is an address
	s := startServer(t, "--config", at("config.yml"))
	alice := &authn.Basic{Username: "alice", Password: "wonder"}
	img, err := random.Image(50_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	push := func(repo string, auth authn.Authenticator) error {
		ref, err := name.NewTag(s.addr+"/"+repo, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return remote.Write(ref, img, remote.WithAuth(auth), remote.WithContext(t.Context()))
	}
	for _, repo := range []string{"local/priv/app:1", "local/pub/app:1"} {
		if err := push(repo, alice); err != nil {
			t.Fatalf("alice pushes %s: %v", repo, err)
		}
	}
	if err := push("local/pub/app:2", authn.Anonymous); err == nil {
		t.Error("nobody may push, and did")
	}
	ts.mu.Lock()
	if want := "repository:local/priv/app:pull,push"; !slices.ContainsFunc(ts.asked, func(s string) bool { return s == want || s == "repository:local/priv/app:push,pull" }) {
		t.Errorf("asked for %q, want %s among them", ts.asked, want)
	}
	ts.mu.Unlock()
	pulls := func(when string) {
		t.Helper()
		for _, tt := range []struct {
			who  string
			auth authn.Authenticator
			repo string
			ok   bool
		}{
			{"alice", alice, "local/priv/app:1", true},
			{"nobody", authn.Anonymous, "local/priv/app:1", false},
			{"a wrong password", &authn.Basic{Username: "alice", Password: "x"}, "local/priv/app:1", false},
			{"nobody", authn.Anonymous, "local/pub/app:1", true},
			{"nobody", authn.Anonymous, "up/pub/app:1", true},
		} {
			if err := pullAll(t, s.addr, tt.repo, tt.auth); (err == nil) != tt.ok {
				t.Errorf("%s, %s pulls %s: %v", when, tt.who, tt.repo, err)
			}
		}
	}
	pulls("at first")
	ts.rotate(t, "2")
	if err := pullAll(t, s.addr, "local/priv/app:1", alice); err == nil {
		t.Error("a key that is not in the set is taken")
	}
	putFile(t, at("keys.json"), ts.keys(t)+"\n") // another length, whatever the clock of the file system
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if pullAll(t, s.addr, "local/priv/app:1", alice) == nil {
			break
		}
		<-tick.C
	}
	pulls("with the new key")
	ts.mu.Lock()
	ts.issuer = "another"
	ts.mu.Unlock()
	if err := pullAll(t, s.addr, "local/priv/app:1", alice); err == nil {
		t.Error("another issuer's token is taken")
	}
}
