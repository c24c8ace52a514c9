package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
)

func TestNewChecksItsOptions(t *testing.T) {
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, o := range map[string]Options{
		"no URL":        {},
		"no scheme":     {URL: parse("//registry.example")},
		"other scheme":  {URL: parse("ftp://registry.example")},
		"no host":       {URL: parse("https:///x")},
		"path":          {URL: parse("https://registry.example/v2/")},
		"query":         {URL: parse("https://registry.example/?x")},
		"userinfo":      {URL: parse("https://robot:secret@registry.example")},
		"no password":   {URL: parse("https://registry.example"), Username: "robot"},
		"password only": {URL: parse("https://registry.example"), Password: "secret"},
	} {
		o.Name = "test"
		if c, err := New(o); err == nil || c != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, %v", name, c, err)
		}
	}
	if _, err := New(Options{Name: "test", URL: parse("https://registry.example/")}); err != nil {
		t.Error(err)
	}
}

// A client is made while its upstream is down, and works once it is up.
func TestUpstreamIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	c := newClient(t, "http://"+addr)
	if _, err := c.Manifest(t.Context(), repo, tag("v1")); !IsUnavailable(err) || !is[*UnreachableError](err) || IsDenied(err) {
		t.Errorf("got %v", err)
	}
	reg := startRegistry(t, func(s *httptest.Server) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Listener.Close()
		s.Listener = l
		s.Start()
	})
	reg.manifests["v1"] = []byte("{}")
	if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	reg := startRegistry(t, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // what the client refuses is expected
		s.StartTLS()
	})
	data := randomBytes(300_000)
	d := reg.addBlob(data)
	for name, tc := range map[string]struct {
		mod func(*Options)
		ok  bool
	}{
		"trusted":   {func(o *Options) { o.RootCAs = rootCAs(reg.Server) }, true},
		"untrusted": {func(o *Options) { o.RootCAs = x509.NewCertPool() }, false},
		"unchecked": {func(o *Options) { o.InsecureSkipVerify = true }, true},
	} {
		c := newClient(t, reg.URL, tc.mod)
		got, err := readBlob(t, c, d, oci.Range{Off: 100, End: 200_000})
		if tc.ok && (err != nil || string(got) != string(data[100:200_000])) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if !tc.ok && (!IsUnavailable(err) || !is[*UnreachableError](err)) {
			t.Errorf("%s: got %v", name, err)
		}
		// In vain once is in vain always.
		if n := testutil.ToFloat64(c.metrics.requests.WithLabelValues(string(opPing), "error")); !tc.ok && n != 1 {
			t.Errorf("%s: tried %v times, want once", name, n)
		}
	}
	for _, r := range reg.requests() {
		if r.ProtoMajor != 2 {
			t.Errorf("%s was asked for over %s", r.URL.Path, r.Proto)
		}
		if e := r.Header.Get("Accept-Encoding"); e != "" {
			t.Errorf("%s was asked for with Accept-Encoding %q", r.URL.Path, e)
		}
	}
}

// The faults of HTTP/1 are got over under HTTP/2 as well.
func TestResumesOverHTTP2(t *testing.T) {
	data := randomBytes(faultySize)
	for _, name := range []string{"cut twice", "stall", "no ranges and cut", "chunked and cut, then ranges", "connection lost"} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan net.Conn, 10)
			reg := startRegistry(t, func(s *httptest.Server) {
				s.EnableHTTP2 = true
				s.Config.ConnState = func(c net.Conn, st http.ConnState) {
					if st == http.StateNew {
						conns <- c
					}
				}
				s.StartTLS()
			})
			var n atomic.Int32
			reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				k := int(n.Add(1)) - 1
				switch f := faultsOvercome[name]; {
				case f != nil:
					f(w, r, data, k)
				case k == 0:
					_ = (<-conns).Close()
				default:
					proper(w, r, data)
				}
				return true
			}
			c := newClient(t, reg.URL, impatient(name), func(o *Options) { o.RootCAs = rootCAs(reg.Server) })
			got, err := readBlob(t, c, reg.addBlob(data), oci.Range{Off: 5, End: -1})
			if err != nil || string(got) != string(data[5:]) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if testutil.ToFloat64(c.metrics.resumes)+testutil.ToFloat64(c.metrics.retries) == 0 {
				t.Error("nothing went wrong")
			}
		})
	}
}

func TestSlots(t *testing.T) {
	reg := newRegistry(t)
	d := reg.addBlob(randomBytes(10 << 20))
	reg.manifests["v1"] = []byte("{}")
	c := newClient(t, reg.URL, func(o *Options) { o.MaxConnections = 8 })
	var bodies []*Body
	for range 7 {
		b, err := c.Blob(t.Context(), repo, d, oci.Range{Off: 0, End: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		bodies = append(bodies, b)
	}
	// The last slot is for small requests.
	if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
	defer cancel()
	if _, err := c.Blob(ctx, repo, d, oci.Range{Off: 0, End: -1}); !errors.Is(err, context.DeadlineExceeded) || !IsUnavailable(err) {
		t.Errorf("an eighth transfer: got %v", err)
	}
	if n := reg.count("/blobs/"); n != 7 {
		t.Errorf("%d transfers were begun, want 7", n)
	}
	// A read body gives its slot back, closed or not.
	if _, err := io.Copy(io.Discard, bodies[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := readBlob(t, c, d, oci.Range{Off: 0, End: 10}); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	reg := newRegistry(t)
	data := randomBytes(faultySize)
	d := reg.addBlob(data)
	n := 0
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if n++; n == 1 {
			w.WriteHeader(599) // no status of ours
			return true
		}
		if n == 2 {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		if n == 3 {
			cut(w, r, data, 50_000)
		}
		return false
	}
	prom := prometheus.NewPedanticRegistry()
	mod := func(o *Options) { o.Registerer = prom }
	c := newClient(t, reg.URL, mod)
	if _, err := c.Blob(t.Context(), repo, d, oci.Range{Off: 0, End: -1}); !IsUnavailable(err) {
		t.Fatal(err)
	}
	if _, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); err != nil {
		t.Fatal(err)
	}
	// A client that takes another's place counts on.
	if _, err := newClient(t, reg.URL, mod).HeadBlob(t.Context(), repo, d); err != nil {
		t.Fatal(err)
	}
	other := func(o *Options) { mod(o); o.Name = "other" }
	if _, err := newClient(t, reg.URL, other).HeadBlob(t.Context(), repo, d); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP sociable_upstream_bytes_total Bytes of bodies read from the upstream.
# TYPE sociable_upstream_bytes_total counter
sociable_upstream_bytes_total{upstream="other"} 0
sociable_upstream_bytes_total{upstream="test"} 100000
# HELP sociable_upstream_requests_total Requests to the upstream, by what was asked and the answer's status; error: no answer; canceled: nobody waited any more.
# TYPE sociable_upstream_requests_total counter
sociable_upstream_requests_total{code="200",op="blob_get",upstream="test"} 1
sociable_upstream_requests_total{code="206",op="blob_get",upstream="test"} 1
sociable_upstream_requests_total{code="502",op="blob_get",upstream="test"} 1
sociable_upstream_requests_total{code="other",op="blob_get",upstream="test"} 1
sociable_upstream_requests_total{code="200",op="blob_head",upstream="test"} 1
sociable_upstream_requests_total{code="200",op="blob_head",upstream="other"} 1
sociable_upstream_requests_total{code="200",op="ping",upstream="test"} 2
sociable_upstream_requests_total{code="200",op="ping",upstream="other"} 1
# HELP sociable_upstream_resumes_total Blob transfers that were taken up again midway.
# TYPE sociable_upstream_resumes_total counter
sociable_upstream_resumes_total{upstream="other"} 0
sociable_upstream_resumes_total{upstream="test"} 1
`
	if err := testutil.GatherAndCompare(prom, strings.NewReader(want),
		"sociable_upstream_bytes_total", "sociable_upstream_requests_total", "sociable_upstream_resumes_total"); err != nil {
		t.Error(err)
	}
	if got := testutil.ToFloat64(c.metrics.retries); got != 2 { // of the 502, and of the cut
		t.Errorf("counted %v retries, want 2", got)
	}
	if n, err := testutil.GatherAndCount(prom, "sociable_upstream_request_duration_seconds"); err != nil || n != 5 {
		t.Errorf("%d histograms, %v; want 5", n, err)
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	status := func(op op, s int) error {
		return fmt.Errorf("wrapped: %w", &StatusError{Upstream: "test", Op: string(op), Status: s})
	}
	type kinds struct{ notFound, denied, throttled, unavailable bool }
	for _, tc := range []struct {
		err  error
		want kinds
	}{
		{nil, kinds{}},
		{context.Canceled, kinds{}},
		{ErrDigest, kinds{}},
		{&RangeError{}, kinds{}},
		{&RangeError{Err: &StatusError{Status: 416}}, kinds{}},
		{context.DeadlineExceeded, kinds{unavailable: true}},
		{&UnreachableError{Err: io.ErrUnexpectedEOF}, kinds{unavailable: true}},
		{&PolicyError{}, kinds{unavailable: true}},
		{&ProtocolError{}, kinds{unavailable: true}},
		{status(opManifest, 404), kinds{notFound: true}},
		{status(opBlob, 410), kinds{notFound: true}},
		{status(opBlob, 401), kinds{denied: true}},
		{status(opBlob, 403), kinds{denied: true}},
		{status(opBlob, 429), kinds{throttled: true, unavailable: true}},
		{status(opBlob, 500), kinds{unavailable: true}},
		{status(opBlob, 503), kinds{unavailable: true}},
		{status(opBlob, 408), kinds{unavailable: true}},
		{status(opBlob, 400), kinds{}},
		{status(opToken, 404), kinds{unavailable: true}},
		{status(opPing, 400), kinds{unavailable: true}},
		{status(opToken, 401), kinds{denied: true}},
	} {
		got := kinds{IsNotFound(tc.err), IsDenied(tc.err), IsThrottled(tc.err), IsUnavailable(tc.err)}
		if got != tc.want {
			t.Errorf("%v: got %+v, want %+v", tc.err, got, tc.want)
		}
	}
	if err := unreachable("test", opBlob, &url.Error{Op: "Get", URL: "https://x/?sig=secret", Err: io.EOF}); errors.Is(err, io.EOF) ||
		strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}
