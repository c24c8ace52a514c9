package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestCertificatesAreWatched: files that change are taken over by themselves,
// within ten seconds, as soon as they fit together.
func TestCertificatesAreWatched(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair := func(serial int64) (cert, key []byte) {
		t.Helper()
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		x := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, x, x, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})
	}
	// put replaces a file as cert-manager and certbot do, with a time of its own.
	mod := time.Now()
	put := func(file string, text []byte) {
		t.Helper()
		mod = mod.Add(time.Minute)
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file+".new", mod, mod); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := pair(1)
	put(certFile, cert)
	put(keyFile, key)
	c, err := OpenCertificates(certFile, keyFile, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		p, err := c.Certificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return p.Leaf.SerialNumber.Int64()
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changes, done := 0, make(chan error, 1)
		go func() { done <- c.Run(ctx, func() { changes++ }) }()
		want := func(when string, number int64, times int) {
			t.Helper()
			time.Sleep(watchEvery)
			synctest.Wait()
			if got := serial(); got != number || changes != times {
				t.Errorf("%s: certificate %d after %d changes, want %d after %d", when, got, changes, number, times)
			}
		}
		want("as it was", 1, 0)
		cert, key := pair(2)
		put(certFile, cert)
		want("half of the new pair", 1, 0)
		put(keyFile, key)
		want("the new pair", 2, 1)
		put(certFile, []byte("no certificate"))
		want("spoilt", 2, 1)
		if err := os.Remove(certFile); err != nil {
			t.Fatal(err)
		}
		want("gone", 2, 1)
		put(certFile, cert)
		want("as before", 2, 2)
		want("and quiet", 2, 2)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestCertificateEnds: that the certificate ends soon, or has, is said once a day,
// and measured.
func TestCertificateEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		left time.Duration
		want string // the level; "": nothing is said
	}{{"fresh", expiryNotice + time.Hour, ""}, {"soon", expiryNotice - time.Hour, "WARN"}, {"over", -time.Hour, "ERROR"}} {
		t.Run(tt.name, func(t *testing.T) {
			until := time.Now().Add(tt.left).Truncate(time.Second)
			var out bytes.Buffer
			c := &Certificates{cert: "tls.crt", log: slog.New(slog.NewTextHandler(&out, nil))}
			c.now.Store(&loaded{pair: &tls.Certificate{Leaf: &x509.Certificate{NotAfter: until}}})
			c.warn()
			c.warn()
			if got := strings.Count(out.String(), "level="+tt.want+" "); tt.want != "" && got != 1 || tt.want == "" && out.Len() > 0 {
				t.Errorf("said %q", out.String())
			}
			reg := prometheus.NewRegistry()
			c.Register(reg)
			got, err := reg.Gather()
			if err != nil || len(got) != 1 || got[0].GetMetric()[0].GetGauge().GetValue() != float64(until.Unix()) {
				t.Errorf("measured %v, %v; want %d", got, err, until.Unix())
			}
		})
	}
}
