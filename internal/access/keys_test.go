package access

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestKeys(t *testing.T) {
	file, c := filepath.Join(t.TempDir(), "keys"), newClock()
	open := func() *Keys {
		t.Helper()
		k, err := OpenKeys(file, nil, c.now)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := open()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v, want 0600", err, info.Mode())
	}
	old, err := k.mint(claims{}, registryToken, c.now(), MaxTokenTTL)
	if err != nil {
		t.Fatal(err)
	}
	k = open() // as after a restart
	if _, err := k.open(old, registryToken, c.now()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := k.open(old, adminToken, c.now()); err == nil {
		t.Error("a token for the registry opens the admin listener")
	}
	c.advance(rotateEvery)
	if err := k.rotate(); err != nil {
		t.Fatal(err)
	}
	fresh, err := k.mint(claims{}, registryToken, c.now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open().open(fresh, registryToken, c.now()); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if len(k.keys) != 2 {
		t.Errorf("%d keys, want the old one kept", len(k.keys))
	}
	c.advance(rotateEvery)
	if err := k.rotate(); err != nil {
		t.Fatal(err)
	}
	if len(k.keys) != 2 {
		t.Errorf("%d keys after the second rotation, want 2", len(k.keys))
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}

	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(file, nil, c.now); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("keys that others may read: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if k := open(); len(k.keys) != 1 {
		t.Errorf("%d keys out of a damaged file, want a new one", len(k.keys))
	}
}

// TestForgedTokens holds that only what was signed here, for this, now, counts.
// The tokens are made with another library than the one that reads them.
func TestForgedTokens(t *testing.T) {
	c := newClock()
	k, err := OpenKeys(filepath.Join(t.TempDir(), "keys"), nil, c.now)
	if err != nil {
		t.Fatal(err)
	}
	key := k.newest()
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pub := key.private().Public().(ed25519.PublicKey)
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": issuer, "aud": registryToken, "sub": "alice", "exp": c.now().Add(time.Minute).Unix(), "nbf": c.now().Unix()}
	}
	sign := func(m jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
		tok := jwt.NewWithClaims(m, claims)
		tok.Header["kid"] = kid
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	with := func(k string, v any) jwt.MapClaims {
		m := good()
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
		return m
	}
	if _, err := k.open(sign(jwt.SigningMethodEdDSA, key.private(), key.ID, good()), registryToken, c.now()); err != nil {
		t.Fatalf("the real one: %v", err)
	}
	for name, raw := range map[string]string{
		"another key":      sign(jwt.SigningMethodEdDSA, stranger, key.ID, good()),
		"unknown key":      sign(jwt.SigningMethodEdDSA, stranger, "x", good()),
		"no signature":     sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, key.ID, good()),
		"symmetric":        sign(jwt.SigningMethodHS256, []byte(pub), key.ID, good()),
		"another issuer":   sign(jwt.SigningMethodEdDSA, key.private(), key.ID, with("iss", "x")),
		"another audience": sign(jwt.SigningMethodEdDSA, key.private(), key.ID, with("aud", adminToken)),
		"no audience":      sign(jwt.SigningMethodEdDSA, key.private(), key.ID, with("aud", nil)),
		"no end":           sign(jwt.SigningMethodEdDSA, key.private(), key.ID, with("exp", nil)),
		"over":             sign(jwt.SigningMethodEdDSA, key.private(), key.ID, with("exp", c.now().Add(-time.Second).Unix())),
		"not yet":          sign(jwt.SigningMethodEdDSA, key.private(), key.ID, with("nbf", c.now().Add(time.Hour).Unix())),
		"nothing":          "",
		"dots":             "..",
		"no JWT":           "abc",
	} {
		if _, err := k.open(raw, registryToken, c.now()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzOpenToken(f *testing.F) {
	c := newClock()
	k, err := OpenKeys(filepath.Join(f.TempDir(), "keys"), nil, c.now)
	if err != nil {
		f.Fatal(err)
	}
	good, err := k.mint(claims{Access: []Grant{{"repository", "a.io/x", []string{"pull"}}}}, registryToken, c.now(), time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := k.open(raw, registryToken, c.now())
		if err == nil {
			if text, _ := json.Marshal(got.Access); raw != good && string(text) != `[{"type":"repository","name":"a.io/x","actions":["pull"]}]` {
				t.Errorf("%q was taken: %s", raw, text)
			}
		}
	})
}
