package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{next: 1}
	a.cert, a.key = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign signs template, or makes it the authority itself.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.next++
	template.SerialNumber = big.NewInt(a.next)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// server writes a pair for 127.0.0.1 and gives the certificate.
func (a *authority) server(t *testing.T, certFile, keyFile string) *x509.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", cert.Raw)
	if keyFile != "" {
		writePEM(t, keyFile, "EC PRIVATE KEY", der)
	}
	return cert
}

// client gives a client's certificate.
func (a *authority) client(t *testing.T, name string, groups ...string) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: groups}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func htpasswdLine(t *testing.T, user, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + string(h) + "\n"
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func sociable(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sociable", args...)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// TestServeTLS is the registry's own TLS with client certificates, over real
// connections, while the files change under it.
func TestServeTLS(t *testing.T) {
	g := newPrivateRegistry(t)
	g.push(t, "pub/app:1")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca, strangers := newAuthority(t), newAuthority(t)
	first := ca.server(t, at("cert.pem"), at("key.pem"))
	writePEM(t, at("clients.pem"), "CERTIFICATE", ca.cert.Raw)
	putFile(t, at("config.yml"), fmt.Sprintf(`
upstreams: {up: {url: %q}}
tls: {cert_file: %s, key_file: %s, client_ca_file: %s}
auth:
  rules: [{repositories: ["**"], pull: [robot, "@ops"]}]
`, g.URL, at("cert.pem"), at("key.pem"), at("clients.pem")))
	s := startServer(t, "--config", at("config.yml"))
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	dial := func(certs ...tls.Certificate) *http.Client {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	get := func(c *http.Client) (*http.Response, error) {
		resp, err := c.Get("https://" + s.addr + "/v2/up/pub/app/manifests/1")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return resp, err
	}
	robot := dial(ca.client(t, "robot"))
	for _, tt := range []struct {
		name string
		c    *http.Client
		want int
	}{
		{"nobody", dial(), 401},
		{"by name", robot, 200},
		{"by group", dial(ca.client(t, "someone", "dev", "ops")), 200},
		{"another", dial(ca.client(t, "someone", "dev")), 403},
	} {
		resp, err := get(tt.c)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if resp.StatusCode != tt.want || resp.ProtoMajor != 2 {
			t.Errorf("%s: %s %s, want %d over HTTP/2", tt.name, resp.Proto, resp.Status, tt.want)
		}
		if ch := resp.Header.Get("WWW-Authenticate"); tt.want == 401 && !strings.HasPrefix(ch, `Bearer realm="https://`+s.addr) {
			t.Errorf("challenge %q", ch)
		}
	}
	if _, err := get(dial(strangers.client(t, "robot"))); err == nil {
		t.Error("a stranger's certificate was taken")
	}
	if conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v, %v", conn, err)
	}
	serial := func() string {
		resp, err := get(dial(ca.client(t, "robot")))
		if err != nil {
			t.Fatal(err)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	// Half of a new pair: the old one stays, and the reload says why.
	second := ca.server(t, at("cert.pem"), "")
	if out, code := sociable(t, "config", "reload", "--data", s.dir); code != exitUsage || !strings.Contains(out, "private key does not match") {
		t.Errorf("reload with half a pair: %d %s", code, out)
	}
	if got := serial(); got != first.SerialNumber.String() {
		t.Errorf("serial %s, want the first's %s; not %s", got, first.SerialNumber, second.SerialNumber)
	}
	third := ca.server(t, at("cert.pem"), at("key.pem"))
	if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
		t.Errorf("reload: %d %s", code, out)
	}
	if got := serial(); got != third.SerialNumber.String() {
		t.Errorf("serial %s, want the new one's %s", got, third.SerialNumber)
	}
	// The connection of before is still there.
	resp, err := get(robot)
	if err != nil || resp.TLS.PeerCertificates[0].SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Errorf("the old connection: %v", err)
	}
	// Other authorities: new connections are checked by those.
	writePEM(t, at("clients.pem"), "CERTIFICATE", strangers.cert.Raw)
	if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
		t.Errorf("reload: %d %s", code, out)
	}
	if _, err := get(dial(ca.client(t, "robot"))); err == nil {
		t.Error("a certificate of an authority that was removed was taken")
	}
	if resp, err := get(dial(strangers.client(t, "robot"))); err != nil || resp.StatusCode != 200 {
		t.Errorf("the new authority's: %v", err)
	}
}

// TestReload: SIGHUP takes over upstreams, credentials and rules as a whole,
// under a transfer that goes on.
func TestReload(t *testing.T) {
	a, b := newPrivateRegistry(t), newPrivateRegistry(t)
	a.push(t, "pub/app:1")
	b.push(t, "pub/app:1")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("users"), htpasswdLine(t, "alice", "wonder"))
	config := func(text string) { putFile(t, at("config.yml"), text) }
	config(fmt.Sprintf("upstreams: {a: {url: %q}}\n", a.URL))
	s := startServer(t, "--config", at("config.yml"))
	status := func(path string, auth func(*http.Request)) int {
		code, _ := plainGet(t, http.MethodGet, "http://"+s.addr+path, auth)
		return code
	}
	alice := func(r *http.Request) { r.SetBasicAuth("alice", "wonder") }
	reload := func() (string, int) { return sociable(t, "config", "reload", "--data", s.dir) }

	if got := status("/v2/a/pub/app/manifests/1", nil); got != 200 {
		t.Fatalf("before: %d", got)
	}
	if got := status("/v2/b/pub/app/manifests/1", nil); got == 200 {
		t.Errorf("an upstream that is not there: %d", got)
	}
	// A connection that is open when everything changes.
	conn := &http.Client{Transport: &http.Transport{}}
	defer conn.CloseIdleConnections()
	reused := func() (was bool) {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { was = i.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/v2/a/pub/app/manifests/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := conn.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Errorf("the open connection: %s, %v", resp.Status, err)
		}
		return was
	}
	reused()
	config(fmt.Sprintf(`
log: {level: debug}
upstreams: {a: {url: %q}, b: {url: %q}}
auth:
  htpasswd_file: %s
  rules: [{repositories: ["b/**"], pull: [alice]}]
`, a.URL, b.URL, at("users")))
	out, code := reload()
	if code != 0 || !strings.Contains(out, "log.level changed, and waits for a restart") || !strings.Contains(out, "reloaded") {
		t.Errorf("reload: %d %s", code, out)
	}
	if !reused() {
		t.Error("the connection was dropped")
	}
	for _, tt := range []struct {
		path string
		auth func(*http.Request)
		want int
	}{
		{"/v2/", nil, 401}, {"/v2/a/pub/app/manifests/1", nil, 200}, {"/v2/b/pub/app/manifests/1", nil, 401}, {"/v2/b/pub/app/manifests/1", alice, 200},
	} {
		if got := status(tt.path, tt.auth); got != tt.want {
			t.Errorf("after: %s is %d, want %d", tt.path, got, tt.want)
		}
	}
	// What does not check changes nothing, and says where.
	config("upstreams: {c: {url: 'http://127.0.0.1:1'}}\nauth: {rulez: []}\n")
	out, code = reload()
	if want := at("config.yml") + `:2: unknown key "rulez"; did you mean "rules"?`; code != exitUsage || !strings.Contains(out, want) {
		t.Errorf("reload of a mistake: %d %s, want 2 and %s", code, out, want)
	}
	if got := status("/v2/b/pub/app/manifests/1", alice); got != 200 {
		t.Errorf("after a mistake: %d, want 200", got)
	}
	// The same by signal.
	config(fmt.Sprintf("upstreams: {b: {url: %q}}\n", b.URL))
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 12_000 {
		if status("/v2/a/pub/app/manifests/1", nil) == 404 {
			break
		}
		<-tick.C
	}
	if got := status("/v2/b/pub/app/manifests/1", nil); got != 200 {
		t.Errorf("after the signal: %d, want 200", got)
	}
	if got := status("/v2/a/pub/app/manifests/1", nil); got != 404 {
		t.Errorf("an upstream that was removed: %d, want 404", got)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state := s.end(t); state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v", state)
	}
}
