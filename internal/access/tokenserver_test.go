package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
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

// TestTheirKeysRotate: a new key is found at once, one that was withdrawn opens
// nothing after the next look, and nobody's tokens have the server asked often.
func TestTheirKeysRotate(t *testing.T) {
	one, two, three := ecKey(t), ecKey(t), ecKey(t)
	ks := newKeyServer(t, jwk("1", one))
	s := newTheirs(t, TokenServerOptions{KeysURL: address(t, ks.URL)})
	c := newClock()
	open := func(key *ecdsa.PrivateKey, kid string) bool {
		t.Helper()
		_, err := s.open(t.Context(), signed(t, jwt.SigningMethodES256, key, kid, c.theirs(grant("a.io/app", "pull"), map[string]any{"exp": c.now().Add(time.Hour).Unix()})), c.now())
		return err == nil
	}
	cached := signed(t, jwt.SigningMethodES256, one, "1", c.theirs(nil, map[string]any{"exp": c.now().Add(time.Hour).Unix()}))
	ks.set(true, jwk("1", one))
	if open(one, "1") {
		t.Error("taken without a key to verify it with")
	}
	ks.set(false, jwk("1", one))
	if open(one, "1") {
		t.Error("asked again at once")
	}
	c.advance(keysPause)
	if !open(one, "1") {
		t.Fatal("the first key is not found")
	}
	if _, err := s.open(t.Context(), cached, c.now()); err != nil {
		t.Fatal(err)
	}
	ks.set(false, jwk("2", two), jwk("1", one))
	c.advance(keysPause)
	if !open(two, "2") || !open(one, "1") {
		t.Error("the new key and the old one do not both count")
	}
	before := ks.count()
	for range 20 {
		if open(three, rand.Text()) {
			t.Error("a stranger's token was taken")
		}
	}
	if n := ks.count() - before; n != 0 {
		t.Errorf("within the pause the server was asked %d times", n)
	}
	c.advance(keysPause)
	for range 20 {
		open(three, rand.Text())
	}
	if n := ks.count() - before; n != 1 {
		t.Errorf("after the pause the server was asked %d times, want once", n)
	}
	ks.set(true)
	c.advance(keysEvery)
	s.keys.refresh(t.Context(), c.now())
	if !open(one, "1") {
		t.Error("a token server that is down takes its keys with it")
	}
	ks.set(false, jwk("2", two))
	s.keys.refresh(t.Context(), c.now())
	if open(one, "1") {
		t.Error("a key that was withdrawn still counts")
	}
	if _, err := s.open(t.Context(), cached, c.now()); err == nil {
		t.Error("a token that was verified with it still counts")
	}
	if !open(two, "2") {
		t.Error("the key that stayed does not count")
	}
}

func TestTheirKeysInAFile(t *testing.T) {
	ca, leaf, other := ecKey(t), ecKey(t), ecKey(t)
	c := newClock()
	cert := func(key crypto.PublicKey, parent *x509.Certificate, signer *ecdsa.PrivateKey) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: c.now().Add(-time.Hour), NotAfter: c.now().Add(time.Hour),
			IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	root := cert(ca.Public(), nil, ca)
	inner := base64.StdEncoding.EncodeToString(cert(leaf.Public(), root, ca).Raw)
	forged := base64.StdEncoding.EncodeToString(cert(other.Public(), cert(other.Public(), nil, other), other).Raw)
	file := filepath.Join(t.TempDir(), "keys")
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	s := newTheirs(t, TokenServerOptions{KeysFile: file})
	claims := c.theirs(nil, nil)
	ES := jwt.SigningMethodES256
	check := func(when string, wants map[string]bool) {
		t.Helper()
		for name, raw := range map[string]string{
			"by the certificate's key": signed(t, ES, ca, "any:name", claims),
			"by one it signed":         signed(t, ES, leaf, "", claims, inner),
			"by a stranger's":          signed(t, ES, other, "", claims, forged),
			"under another's":          signed(t, ES, other, "", claims, inner),
			"by another key":           signed(t, ES, other, "o", claims),
		} {
			if _, err := s.open(t.Context(), raw, c.now()); (err == nil) != wants[name] {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
	}
	check("certificate", map[string]bool{"by the certificate's key": true, "by one it signed": true})
	put([]byte("{"))
	c.advance(lookAgain)
	check("half-written", map[string]bool{"by the certificate's key": true, "by one it signed": true})
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk("o", other)}})
	if err != nil {
		t.Fatal(err)
	}
	put(set)
	c.advance(lookAgain)
	check("set", map[string]bool{"by another key": true, "by a stranger's": true, "under another's": true})
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

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := parseKeys(text)
		if (err == nil) != (len(k.list) > 0) {
			t.Errorf("%d keys, %v", len(k.list), err)
		}
		for _, x := range k.list {
			if !x.strong() {
				t.Errorf("took %T", x.key)
			}
		}
	})
}
