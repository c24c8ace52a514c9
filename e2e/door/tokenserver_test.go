package door

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	return a
}

// sign signs template, or makes it the authority itself.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// file has the authority's certificate.
func (a *authority) file(t *testing.T) string {
	t.Helper()
	name := filepath.Join(a.dir, "ca.pem")
	write(t, name, pemOf("CERTIFICATE", a.cert.Raw))
	return name
}

// pair writes a certificate and its key, for a server or for a client of that
// name.
func (a *authority) pair(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	write(t, certFile, pemOf("CERTIFICATE", cert.Raw))
	write(t, keyFile, pemOf("EC PRIVATE KEY", der))
	return certFile, keyFile
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// passwords are everybody's.
var passwords = map[string]string{"alice": "wonder", "bob": "builder"}

// tokenServer is one as the distribution project specifies it. alice may do
// everything, bob may pull, and nobody may pull what is below pub.
type tokenServer struct {
	plain, tls *httptest.Server
	issuer     string
	key        *ecdsa.PrivateKey
	cert       *x509.Certificate // of the key, by the authority

	mu    sync.Mutex
	asked []string // user and scopes
}

func newTokenServer(t *testing.T, a *authority) *tokenServer {
	t.Helper()
	s := &tokenServer{issuer: "their issuer"}
	s.cert, s.key = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: s.issuer}, KeyUsage: x509.KeyUsageDigitalSignature})
	s.plain, s.tls = httptest.NewServer(s), httptest.NewUnstartedServer(s)
	t.Cleanup(s.plain.Close)
	pair, err := tls.LoadX509KeyPair(a.pair(t, "token server"))
	if err != nil {
		t.Fatal(err)
	}
	s.tls.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.tls.StartTLS()
	t.Cleanup(s.tls.Close)
	return s
}

// realm is where clients on this machine get tokens: crane takes no address.
func (s *tokenServer) realm() string {
	return strings.Replace(s.plain.URL, "127.0.0.1", "localhost", 1) + "/token"
}

func (s *tokenServer) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.asked
	s.asked = nil
	return a
}

type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/jwks" {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{s.jwk()}})
		return
	}
	if r.Method != http.MethodGet { // skopeo and containerd try OAuth2 first; a server may have GET alone
		http.Error(w, "{}", http.StatusNotFound)
		return
	}
	user, password, ok := r.BasicAuth()
	if ok && (passwords[user] == "" || passwords[user] != password) {
		http.Error(w, `{"details":"no such user"}`, http.StatusUnauthorized)
		return
	}
	grants := []grant{}
	for _, scope := range r.URL.Query()["scope"] {
		parts := strings.Split(scope, ":")
		if len(parts) != 3 {
			continue
		}
		switch {
		case user == "alice":
			grants = append(grants, grant{parts[0], parts[1], strings.Split(parts[2], ",")})
		case user == "bob", strings.Contains(parts[1], "pub/"):
			grants = append(grants, grant{parts[0], parts[1], []string{"pull"}})
		}
	}
	s.mu.Lock()
	s.asked = append(s.asked, user+" "+strings.Join(r.URL.Query()["scope"], " "))
	s.mu.Unlock()
	now := time.Now()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": s.issuer, "aud": r.URL.Query().Get("service"), "sub": user, "access": grants, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	tok.Header["kid"] = "one"
	if r.URL.Query().Get("service") == oldService { // knows keys by certificates alone
		delete(tok.Header, "kid")
		tok.Header["x5c"] = []string{base64.StdEncoding.EncodeToString(s.cert.Raw)}
	}
	raw, err := tok.SignedString(s.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": raw, "access_token": raw, "expires_in": 300, "issued_at": now.UTC().Format(time.RFC3339)})
}

// oldService is docker-registry's name to the token server.
const oldService = "an old registry"

// jwk is the key in the form of RFC 7518 §6.2.
func (s *tokenServer) jwk() map[string]string {
	point, err := s.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err) // of a key that was just made
	}
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]string{"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", "x": enc(point[1:33]), "y": enc(point[33:])}
}
