package access

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sociable/sociable/internal/oci"
)

// keyServer gives out a key set, which tests change.
type keyServer struct {
	*httptest.Server
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	down  bool
	asked int
}

func newKeyServer(t *testing.T, keys ...jose.JSONWebKey) *keyServer {
	t.Helper()
	s := &keyServer{keys: keys}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if s.down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: s.keys})
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(down bool, keys ...jose.JSONWebKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.keys = down, keys
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func jwk(id string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: id, Key: key.Public(), Use: "sig"}
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// theirs are the claims of a good token, with changes; nil leaves one out.
func (c *clock) theirs(access []Grant, changes map[string]any) jwt.MapClaims {
	m := jwt.MapClaims{
		"iss": "their issuer", "aud": "our name", "sub": "alice", "access": access,
		"exp": c.now().Add(5 * time.Minute).Unix(), "nbf": c.now().Unix(), "iat": c.now().Unix(),
	}
	for k, v := range changes {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

// signed makes a token with another library than the one that reads it.
func signed(t *testing.T, m jwt.SigningMethod, key any, kid string, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	tok := jwt.NewWithClaims(m, claims)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	if len(header) > 0 {
		tok.Header["x5c"] = header
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTheirs(t *testing.T, o TokenServerOptions) *TokenServer {
	t.Helper()
	o.Realm, o.Service, o.Issuer = "https://auth.example/token", "our name", "their issuer"
	s, err := NewTokenServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func address(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func grant(name string, actions ...string) []Grant {
	return []Grant{{"repository", name, actions}}
}

func TestTheirTokens(t *testing.T) {
	rs, ec, weak, stranger := rsaKey(t, 2048), ecKey(t), rsaKey(t, 1024), ecKey(t)
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	onlyES := jwk("only", stranger)
	onlyES.Algorithm = "ES512"
	sealing := jwk("sealing", ec)
	sealing.Use = "enc"
	ks := newKeyServer(t, jwk("rs", rs), jwk("ec", ec), jwk("ed", ed), jwk("weak", weak), onlyES, sealing,
		jose.JSONWebKey{KeyID: "shared", Key: []byte("a secret of both of us, long enough")})
	pub, err := x509.MarshalPKIXPublicKey(rs.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})
	b := newBench(t, Policy{Upstreams: map[string]Mode{"a.io": Closed, "b.io": Open}, Tokens: newTheirs(t, TokenServerOptions{KeysURL: address(t, ks.URL)})})
	c, pull := b.clock, grant("a.io/app", "pull")
	good := c.theirs(pull, nil)
	with := func(k string, v any) jwt.MapClaims { return c.theirs(pull, map[string]any{k: v}) }
	ES, none := jwt.SigningMethodES256, jwt.SigningMethodNone
	for name, tt := range map[string]struct {
		token string
		path  string
		want  int
	}{
		"RS256":                          {signed(t, jwt.SigningMethodRS256, rs, "rs", good), "a.io/app/pull", 200},
		"PS512":                          {signed(t, jwt.SigningMethodPS512, rs, "rs", good), "a.io/app/pull", 200},
		"ES256":                          {signed(t, ES, ec, "ec", good), "a.io/app/pull", 200},
		"EdDSA":                          {signed(t, jwt.SigningMethodEdDSA, ed, "ed", good), "a.io/app/pull", 200},
		"a key that is not named":        {signed(t, ES, ec, "", good), "a.io/app/pull", 200},
		"one of two audiences":           {signed(t, ES, ec, "ec", with("aud", []string{"x", "our name"})), "a.io/app/pull", 200},
		"over since a moment":            {signed(t, ES, ec, "ec", with("exp", c.now().Add(-10*time.Second).Unix())), "a.io/app/pull", 200},
		"no upstream named":              {signed(t, ES, ec, "ec", c.theirs(grant("app", "pull"), nil)), "a.io/app/pull", 200},
		"all actions":                    {signed(t, ES, ec, "ec", c.theirs(grant("local/app", "*"), nil)), "local/app/delete", 200},
		"push":                           {signed(t, ES, ec, "ec", c.theirs(grant("local/app", "pull", "push"), nil)), "local/app/push", 200},
		"nobody in particular":           {signed(t, ES, ec, "ec", with("sub", nil)), "a.io/app/pull", 200},
		"nothing granted, what is open":  {signed(t, ES, ec, "ec", c.theirs(nil, nil)), "b.io/app/pull", 200},
		"nothing granted":                {signed(t, ES, ec, "ec", c.theirs(nil, nil)), "a.io/app/pull", 401},
		"another repository":             {signed(t, ES, ec, "ec", c.theirs(grant("a.io/other", "pull"), nil)), "a.io/app/pull", 401},
		"the same name elsewhere":        {signed(t, ES, ec, "ec", c.theirs(grant("app", "pull"), nil)), "local/app/pull", 401},
		"more than granted":              {signed(t, ES, ec, "ec", good), "a.io/app/push", 401},
		"another kind":                   {signed(t, ES, ec, "ec", c.theirs([]Grant{{"registry", "a.io/app", []string{"pull"}}}, nil)), "a.io/app/pull", 401},
		"another issuer":                 {signed(t, ES, ec, "ec", with("iss", "x")), "a.io/app/pull", 401},
		"no issuer":                      {signed(t, ES, ec, "ec", with("iss", nil)), "a.io/app/pull", 401},
		"another audience":               {signed(t, ES, ec, "ec", with("aud", "x")), "a.io/app/pull", 401},
		"no audience":                    {signed(t, ES, ec, "ec", with("aud", nil)), "a.io/app/pull", 401},
		"over":                           {signed(t, ES, ec, "ec", with("exp", c.now().Add(-time.Minute).Unix())), "a.io/app/pull", 401},
		"without an end":                 {signed(t, ES, ec, "ec", with("exp", nil)), "a.io/app/pull", 401},
		"not yet":                        {signed(t, ES, ec, "ec", with("nbf", c.now().Add(time.Hour).Unix())), "a.io/app/pull", 401},
		"of tomorrow":                    {signed(t, ES, ec, "ec", with("iat", c.now().Add(time.Hour).Unix())), "a.io/app/pull", 401},
		"none":                           {signed(t, none, jwt.UnsafeAllowNoneSignatureType, "ec", good), "a.io/app/pull", 401},
		"HS256 with the public key":      {signed(t, jwt.SigningMethodHS256, text, "rs", good), "a.io/app/pull", 401},
		"HS256 with the public key, DER": {signed(t, jwt.SigningMethodHS256, pub, "rs", good), "a.io/app/pull", 401},
		"HS256 with a key of the set":    {signed(t, jwt.SigningMethodHS256, []byte("a secret of both of us, long enough"), "shared", good), "a.io/app/pull", 401},
		"a stranger's":                   {signed(t, ES, stranger, "ec", good), "a.io/app/pull", 401},
		"a stranger's, not named":        {signed(t, ES, stranger, "", good), "a.io/app/pull", 401},
		"a key for something else":       {signed(t, ES, ec, "sealing", good), "a.io/app/pull", 401},
		"a key for another algorithm":    {signed(t, ES, stranger, "only", good), "a.io/app/pull", 401},
		"a weak key":                     {signed(t, jwt.SigningMethodRS256, weak, "weak", good), "a.io/app/pull", 401},
		"no token at all":                {"", "a.io/app/pull", 401},
		"rubbish":                        {"abc", "b.io/app/pull", 401},
	} {
		t.Run(name, func(t *testing.T) {
			resp := b.get(t, "/v2/"+tt.path, tt.token, "")
			if resp.StatusCode != tt.want {
				t.Errorf("%d %s, want %d", resp.StatusCode, resp.Header.Get("WWW-Authenticate"), tt.want)
			}
			if want := `Bearer realm="https://auth.example/token",service="our name"`; resp.StatusCode == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), want) {
				t.Errorf("challenge %q, want %s…", resp.Header.Get("WWW-Authenticate"), want)
			}
		})
	}
	if n := ks.count(); n != 1 && n != 2 { // the first, and at most one for all the unknown keys
		t.Errorf("the keys were asked for %d times", n)
	}
	if resp := b.get(t, "/v2/", "", ""); resp.StatusCode != 401 {
		t.Errorf("/v2/ without a token: %d", resp.StatusCode)
	}
	if a := b.token(t, "alice", users["alice"], "repository:a.io/app:pull"); a.status == 200 {
		t.Error("our own token service still gives tokens")
	}
}

// TestTheirHostIsNotOurs: the Host header of who presents a token does not say
// what the names in it mean.
func TestTheirHostIsNotOurs(t *testing.T) {
	ec := ecKey(t)
	b := newBench(t, Policy{Upstreams: map[string]Mode{"a.io": Closed, "b.io": Closed}, Tokens: newTheirs(t, TokenServerOptions{KeysURL: address(t, newKeyServer(t, jwk("ec", ec)).URL)})})
	tok := signed(t, jwt.SigningMethodES256, ec, "ec", b.clock.theirs(grant("app", "pull"), nil))
	for host, want := range map[string]int{"a.example": 200, "b.example": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+"/v2/app/pull", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Authorization", "Bearer "+tok)
		resp, err := b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("at %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// TestRulesNarrowTheirTokens: a rule that matches decides about what a token
// grants, too.
func TestRulesNarrowTheirTokens(t *testing.T) {
	ec := ecKey(t)
	p := mixed()
	p.Tokens = newTheirs(t, TokenServerOptions{KeysURL: address(t, newKeyServer(t, jwk("ec", ec)).URL)})
	b := newBench(t, p)
	as := func(sub, repo string) string {
		return signed(t, jwt.SigningMethodES256, ec, "ec", b.clock.theirs(grant(repo, "*"), map[string]any{"sub": sub}))
	}
	for _, tt := range []struct {
		who, repo string
		action    oci.Action
		want      int
	}{
		{"alice", "a.io/private/app", oci.ActionPull, 200},
		{"bob", "a.io/private/app", oci.ActionPull, 403},
		{"bob", "local/team/app", oci.ActionPush, 200},
		{"alice", "local/team/app", oci.ActionPush, 403},
		{"alice", "local/team/app", oci.ActionPull, 200},
		{"alice", "local/nobody", oci.ActionPull, 403},
		{"alice", "b.io/app", oci.ActionPush, 200}, // no rule: what is granted
	} {
		if got := b.get(t, "/v2/"+tt.repo+"/"+string(tt.action), as(tt.who, tt.repo), "").StatusCode; got != tt.want {
			t.Errorf("%s, %s %s: %d, want %d", tt.who, tt.action, tt.repo, got, tt.want)
		}
	}
	// An upstream's own admin tokens are ours, whatever else is.
	raw, _, err := b.a.AdminToken(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if b.get(t, "/v2/a.io/private/app/pull", raw, "").StatusCode != 401 {
		t.Error("an operator's token is taken for one of the token server's")
	}
}

// TestTheirTokensAreExplained: the log says why a token does not count, and the
// answer does not.
func TestTheirTokensAreExplained(t *testing.T) {
	ec := ecKey(t)
	theirs := newTheirs(t, TokenServerOptions{KeysURL: address(t, newKeyServer(t, jwk("ec", ec)).URL)})
	clock := newClock()
	keys, err := OpenKeys(filepath.Join(t.TempDir(), "keys"), nil, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := New(Options{Keys: keys, Now: clock.now, Resolve: resolve, Logger: slog.New(slog.NewTextHandler(&out, nil))}, Policy{Upstreams: map[string]Mode{"a.io": Closed}, Tokens: theirs})
	with := func(k string, v any) jwt.MapClaims {
		return clock.theirs(grant("a.io/app", "pull"), map[string]any{k: v})
	}
	ES := jwt.SigningMethodES256
	for name, tt := range map[string]struct{ token, says string }{
		"over":             {signed(t, ES, ec, "ec", with("exp", clock.now().Add(-time.Hour).Unix())), "the token has expired: exp is "},
		"without an end":   {signed(t, ES, ec, "ec", with("exp", nil)), "it never ends"},
		"another issuer":   {signed(t, ES, ec, "ec", with("iss", "wrong")), `its issuer (iss) is \"wrong\", auth.token_server.issuer is \"their issuer\"`},
		"another audience": {signed(t, ES, ec, "ec", with("aud", "wrong")), `its audience (aud) is [\"wrong\"], auth.token_server.service is \"our name\"`},
		"not yet":          {signed(t, ES, ec, "ec", with("nbf", clock.now().Add(time.Hour).Unix())), "not valid yet: nbf is "},
		"another key":      {signed(t, ES, ecKey(t), "new", with("x", 1)), `none of its 1 keys has signed it; it names the key (kid) \"new\", for ES256`},
		"none":             {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "ec", with("x", 1)), "an asymmetric algorithm"},
	} {
		out.Reset()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/a.io/app/manifests/1", nil)
		req.Header.Set("Authorization", "Bearer "+tt.token)
		var answer error
		a.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			answer = a.May(r, oci.Repo{Upstream: "a.io", Name: "app"}, oci.ActionPull)
		})).ServeHTTP(httptest.NewRecorder(), req)
		if log := out.String(); !strings.Contains(log, "msg=login via=token decision=refused") || !strings.Contains(log, tt.says) || strings.Contains(log, tt.token) {
			t.Errorf("%s: the log says %s, want %s", name, log, tt.says)
		}
		if e, ok := errors.AsType[*oci.Error](answer); !ok || e.Message != "the token has expired, or is not one of the token server's" {
			t.Errorf("%s: the answer is %v", name, answer)
		}
	}
}
