package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

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
