package link

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestGoAway holds that a client of HTTP/2 sees GOAWAY where that is ordered: in
// the middle of a body, and instead of an answer, where it asks again by itself.
func TestGoAway(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	}))
	up.Start()
	defer up.Close()
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	l, err := Start(up.URL, Options{Certificate: &certs.TLS.Certificates[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the link: %v", err)
		}
	}()
	tr := &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true}
	defer tr.CloseIdleConnections()
	tr.TLSClientConfig = certs.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	tr.TLSClientConfig.RootCAs = x509.NewCertPool()
	tr.TLSClientConfig.RootCAs.AddCert(certs.Certificate())
	for _, tt := range []struct {
		name, method string
		fault        Fault
		requests     int
		cut          int // of the body; -1: it is whole
	}{
		{"none", "GET", Fault{}, 1, -1},
		{"in the middle", "GET", Fault{Times: 1, Cut: 100_000, Ends: GoAway}, 1, 100_000},
		{"before the body", "GET", Fault{Times: 1, Ends: GoAway}, 1, 0},
		{"behind a HEAD", "HEAD", Fault{Times: 1, Cut: 7, Ends: GoAway}, 1, -1},
		{"instead of an answer", "GET", Fault{Times: 1, Refuse: true, Ends: GoAway}, 2, -1},
		{"behind an answer", "GET", Fault{Header: http.Header{"Connection": {"close"}}}, 1, -1},
	} {
		l.Heal()
		l.Forget()
		l.Inject(tt.fault)
		req, err := http.NewRequestWithContext(t.Context(), tt.method, l.URL()+blobPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if tt.cut == 0 && err != nil && strings.Contains(err.Error(), "GOAWAY") {
			continue // the headers may be lost with the body
		}
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := blob
		if tt.method == "HEAD" {
			want = nil
		}
		if cut := tt.cut >= 0; resp.ProtoMajor != 2 || cut != (err != nil) || cut && !strings.Contains(err.Error(), "GOAWAY") || !cut && !bytes.Equal(body, want) {
			t.Errorf("%s: %s %d, %d bytes, %v", tt.name, resp.Proto, resp.StatusCode, len(body), err)
		}
		if tt.cut >= 0 && len(body) != tt.cut {
			t.Errorf("%s: %d bytes came, want %d", tt.name, len(body), tt.cut)
		}
		if n := len(l.Requests()); n != tt.requests {
			t.Errorf("%s: %d requests, want %d", tt.name, n, tt.requests)
		}
	}
}
