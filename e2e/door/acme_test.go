package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/sociable/sociable/e2e/harness"
)

// pebble is Let's Encrypt's ACME server for tests. It looks for what it is asked
// to certify at one port of this machine, whatever its name.
type pebble struct {
	*httptest.Server
	roots *x509.CertPool
}

func newPebble(t *testing.T, a *authority, tlsPort int) *pebble {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the default"}})
	front := wfe.New(quiet, store, va.New(quiet, 1, tlsPort, false, everyNameIsHere(t), store), authority, []string{"pebble.test"}, false, false, 1, 1)
	p := &pebble{roots: x509.NewCertPool()}
	p.roots.AddCert(rootOf(t, authority))
	p.Server = httptest.NewUnstartedServer(front.Handler())
	pair, err := tls.LoadX509KeyPair(a.pair(t, "acme"))
	if err != nil {
		t.Fatal(err)
	}
	p.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func rootOf(t *testing.T, authority *ca.CAImpl) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(authority.GetRootCert(0).PEM())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// everyNameIsHere is the address of a DNS server for which every name is
// 127.0.0.1.
func everyNameIsHere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if h := q.Question[0]; h.Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(m) // who asked is gone, then
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ActivateAndServe() // until it is shut down
	}()
	t.Cleanup(func() {
		_ = s.Shutdown()
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// TestACME has sociable get its certificate from an ACME server, which looks for
// it by the TLS-ALPN-01 challenge, and keep it over a restart.
func TestACME(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	dir, a := t.TempDir(), newAuthority(t)
	file := filepath.Join(dir, "config.yml")
	x, err := harness.NewProxy(&programs, filepath.Join(dir, "data"), nil, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(x.Addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	p := newPebble(t, a, n)
	write(t, file, fmt.Sprintf("upstreams: {up: {url: 'http://127.0.0.1:9'}}\ntls: {acme: {domains: [registry.test], email: ops@registry.test, directory_url: %q}}\n", p.URL+"/dir"))
	x.Env = []string{"SSL_CERT_FILE=" + a.file(t)} // of the ACME server itself
	if err := x.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if t.Failed() {
			t.Logf("sociable's log:\n%s", x.Log())
		}
	})
	get := func(name string, versions ...uint16) (*http.Response, error) {
		c := &tls.Config{RootCAs: p.roots, ServerName: name}
		if len(versions) > 0 {
			c.MinVersion, c.MaxVersion = versions[0], versions[0]
		}
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: c}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://" + x.Addr + "/v2/")
		if err == nil {
			err = resp.Body.Close()
		}
		return resp, err
	}
	first, err := get("registry.test")
	if err != nil || first.StatusCode != http.StatusOK || first.ProtoMajor != 2 {
		t.Fatalf("the first request: %v, %v; want 200 over HTTP/2", first, err)
	}
	if _, err := get("other.test"); err == nil {
		t.Error("there is a certificate for a name that is not configured")
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		if resp, err := get("registry.test", version); (err == nil) != ok || ok && resp.TLS.Version != version {
			t.Errorf("%s: %v, want it taken: %t", tls.VersionName(version), err, ok)
		}
	}
	if err := x.Stop(); err != nil {
		t.Fatal(err)
	}
	p.Close() // what was made is kept
	if err := x.Start(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := get("registry.test")
	if err != nil || again.TLS.PeerCertificates[0].SerialNumber.Cmp(first.TLS.PeerCertificates[0].SerialNumber) != 0 {
		t.Errorf("after a restart there is another certificate: %v", err)
	}
}
