package upstream

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestStrangersAreVerified: that an upstream's certificate is not looked at, or is
// answered with one of ours, holds for its own host and not for the one that it
// redirects to, nor for a mirror.
func TestStrangersAreVerified(t *testing.T) {
	blob := randomBytes(1000)
	var shown, strangers atomic.Int32
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		strangers.Add(int32(len(r.TLS.PeerCertificates)))
		_, _ = w.Write(blob)
	}))
	other.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	other.StartTLS()
	defer other.Close()
	reg := startRegistry(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
	})
	d := reg.addBlob(blob)
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1) // which its certificate is not for
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		shown.Add(int32(len(r.TLS.PeerCertificates)))
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, elsewhere+"/x", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	for _, tt := range []struct {
		name string
		mods []func(*Options)
	}{
		{"a redirect", nil},
		{"a mirror", []func(*Options){mirrors(t, elsewhere)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, reg.URL, append(tt.mods, func(o *Options) {
				o.InsecureSkipVerify = true
				o.Certificates = []tls.Certificate{reg.TLS.Certificates[0]}
			})...)
			if _, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); err == nil {
				t.Error("a stranger was believed")
			}
		})
	}
	if shown.Load() == 0 || strangers.Load() > 0 {
		t.Errorf("certificates: the upstream saw %d, strangers saw %d", shown.Load(), strangers.Load())
	}
}
