package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/access"
)

// lines is a log that is read while it is written.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// TestCertificateLines: whose certificate is not taken stands in the log, by
// subject and serial number; and where one is required at the registry, who asks
// the admin listener, such as a probe, needs none.
func TestCertificateLines(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca := newAuthority(t)
	ca.server(t, at("cert.pem"), at("key.pem"))
	writePEM(t, at("clients.pem"), "CERTIFICATE", ca.cert.Raw)
	certs, err := access.OpenCertificates(at("cert.pem"), at("key.pem"), at("clients.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.TLS.CertFile, cfg.TLS.KeyFile, cfg.TLS.ClientCAFile, cfg.TLS.ClientAuth = at("cert.pem"), at("key.pem"), at("clients.pem"), "required"
	secure := buildTLS(cfg, certs)

	var log lines
	ctx, end := context.WithCancel(t.Context())
	var g errgroup.Group
	open := func(config *tls.Config) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		entrance{l, h, config, access.NameSubject}.open(ctx, &g, time.Second, newLogger(LogConfig{Level: "info", Format: "text"}, &log))
		return "https://" + l.Addr().String() + "/readyz"
	}
	registry, admin := open(secure.config()), open(secure.adminConfig())
	get := func(url string, shown ...tls.Certificate) error {
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whoever the server says it trusts
			if len(shown) == 0 {
				return &tls.Certificate{}, nil
			}
			return &shown[0], nil
		}
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, GetClientCertificate: show}}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	old := expiredClient(t, ca)
	if err := get(registry, ca.client(t, "robot")); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if err := get(registry); err == nil {
		t.Error("the registry takes who has none")
	}
	if err := get(admin); err != nil {
		t.Errorf("a probe without one: %v", err)
	}
	if err := errors.Join(get(registry, ca.client(t, "", "ops"))); err != nil {
		t.Errorf("one without a name: %v", err)
	}
	for _, url := range []string{registry, admin} {
		if err := get(url, old); err == nil {
			t.Errorf("%s takes one that has expired", url)
		}
	}
	await(t, "four lines", func() bool { return strings.Count(log.String(), "decision=refused") == 4 })
	end()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	got := log.String()
	for want, n := range map[string]int{
		`subject="CN=night job,O=batch" serial=abc issuer="CN=test"`: 2,
		"certificate has expired":                                    2,
		`subject="O=ops"`:                                            1,
		"has no subject that names a user":                           1,
		"client didn't provide a certificate":                        1,
		"robot":                                                      0,
	} {
		if strings.Count(got, want) != n {
			t.Errorf("%q is not there %d times in:\n%s", want, n, got)
		}
	}
}

// expiredClient is a client's certificate that has ended.
func expiredClient(t *testing.T, ca *authority) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: "night job", Organization: []string{"batch"}},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestUpstreamCertificateEnds: a client certificate for an upstream that has
// expired is told before anything is asked with it.
func TestUpstreamCertificateEnds(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	old := expiredClient(t, newAuthority(t))
	der, err := x509.MarshalECPrivateKey(old.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, at("crt.pem"), "CERTIFICATE", old.Certificate[0])
	writePEM(t, at("key.pem"), "EC PRIVATE KEY", der)
	putFile(t, at("config.yml"), "upstreams:\n  up:\n    url: https://up.example\n    client_cert_file: "+at("crt.pem")+"\n    client_key_file: "+at("key.pem")+"\n")
	out, code := sociable(t, "config", "check", at("config.yml"))
	if code != 0 || !strings.Contains(out, "config.yml:4: ") || !strings.Contains(out, "upstreams.up.client_cert_file: the certificate expired on ") {
		t.Errorf("exit %d: %s", code, out)
	}
}
