package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/upstream"
)

// second adds an upstream beside "up", read from g.
func second(t *testing.T, g *registry, name string) func(*Options) {
	t.Helper()
	u, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := upstream.New(upstream.Options{Name: name, URL: u, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: name, Registry: c, TagTTL: time.Hour, TagTimeout: time.Second})
	}
}

// TestOneUpstreamNeverSpeaksForAnother holds that unverified bytes and sizes of
// one upstream reach nobody who asks another.
func TestOneUpstreamNeverSpeaksForAnother(t *testing.T) {
	good, evil := newRegistry(t), newRegistry(t)
	s := newServer(t, good, second(t, evil, "evil"))
	layer := random(2<<20, 21)
	d := good.addBlob("a", layer)
	evil.mu.Lock()
	evil.blobs["a@"+d.String()] = bytes.Repeat([]byte("evil"), 100_000)
	evil.mu.Unlock()
	if a := s.do(t, "GET", "/v2/evil/a/blobs/"+d.String(), "Range", "bytes=1000-1099"); a.status != 206 {
		t.Fatalf("evil: status %d", a.status)
	}
	for range 2 {
		a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", "bytes=1000-1099")
		if a.status != 206 || !bytes.Equal(a.body, layer[1000:1100]) {
			t.Errorf("range: status %d, %q", a.status, a.body)
		}
		if a := s.do(t, "HEAD", "/v2/up/a/blobs/"+d.String()); a.header.Get("Content-Length") != "2097152" {
			t.Errorf("size %s", a.header.Get("Content-Length"))
		}
	}
	waitFor(t, func() bool { _, at := s.p.filling(s.p.routes().byName["evil"], d); return !at })
	if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String()); a.status != 200 || !bytes.Equal(a.body, layer) {
		t.Errorf("whole: status %d, %d bytes", a.status, len(a.body))
	}
}

// TestOddRanges holds that no range makes the proxy wait for ever or ask
// upstream without end.
func TestOddRanges(t *testing.T) {
	layer := random(1<<20, 22)
	for _, h := range []string{
		"bytes=9223372036854775807-", "bytes=9223372036854775806-9223372036854775807", "bytes=4611686018427387905-",
		"bytes=6000000000000000000-6000000000000000001", "bytes=1048576-", "bytes=0-9223372036854775806",
	} {
		g := newRegistry(t)
		s := newServer(t, g, nil)
		d := g.addBlob("a", layer)
		a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", h)
		if strings.HasPrefix(h, "bytes=0-") != (a.status == 206) || (a.status != 206 && a.status != 416) {
			t.Errorf("%s: status %d", h, a.status)
		}
		if got := g.take(); len(got) > 3 {
			t.Errorf("%s: %d upstream requests: %q", h, len(got), got)
		}
	}
}

// TestUpstreamThatRefusesRanges answers 416 to a range that exists.
func TestUpstreamThatRefusesRanges(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(1<<20, 23)
	d := g.addBlob("a", layer)
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(body)))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
	if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", "bytes=10-20"); a.status != http.StatusServiceUnavailable {
		t.Errorf("status %d", a.status)
	}
	if got := g.take(); len(got) > 3 {
		t.Errorf("%d upstream requests", len(got))
	}
}

// TestAllByRangesIsVerified holds that ranges which add up to the whole blob are
// no way round the digest.
func TestAllByRangesIsVerified(t *testing.T) {
	layer := random(300_000, 24)
	for _, h := range []string{"bytes=0-299999", "bytes=0-", "bytes=0-9,10-", "bytes=10-,0-9"} {
		g := newRegistry(t)
		s := newServer(t, g, nil)
		d := g.addBlob("a", layer)
		wrong := bytes.Repeat([]byte("W"), len(layer))
		g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wrong))
			return true
		}
		a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", h)
		if a.err == nil && a.status < 300 {
			t.Errorf("%s: status %d, %d wrong bytes and a clean end", h, a.status, len(a.body))
		}
	}
}

// TestOpenRangeOfSpansStops holds that a client who asks for the rest of a layer
// and leaves has not had all of it fetched.
func TestOpenRangeOfSpansStops(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := tarGz(t, 300)
	d, _ := index(t, s, layer)
	g.addBlob("a", layer)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/up/a/blobs/"+d.String(), nil)
	req.Header.Set("Range", "bytes=1000-")
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // the very value
				t.Errorf("the answer ended with %v", got)
			}
		}()
		s.p.ServeHTTP(&leaver{header: http.Header{}, stays: 100_000}, req)
	}()
	s.stop() // ends every transfer, or lets it finish
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sent > int64(len(layer))/2 {
		t.Errorf("upstream sent %d of %d bytes", g.sent, len(layer))
	}
}

// leaver is a client that goes away after so many bytes.
type leaver struct {
	header http.Header
	stays  int
}

func (l *leaver) Header() http.Header { return l.header }

func (l *leaver) WriteHeader(int) {}

func (l *leaver) Write(p []byte) (int, error) {
	if l.stays -= len(p); l.stays < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// TestNoTransferWaitsForAnotherWithAConnection has as many whole reads as the
// upstream may have connections, each with a range in front of it.
func TestNoTransferWaitsForAnotherWithAConnection(t *testing.T) {
	const many = 6
	g := newRegistry(t)
	u, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := upstream.New(upstream.Options{Name: "up", URL: u, MaxConnections: many, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = c })
	var open atomic.Int32
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Header.Get("Range") != "" {
			return false
		}
		open.Add(1)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:100_000])
		_ = http.NewResponseController(w).Flush()
		for open.Load() < many-1 && r.Context().Err() == nil { // until every pump has a connection
			time.Sleep(time.Millisecond)
		}
		_, _ = w.Write(body[100_000:])
		return true
	}
	var wg sync.WaitGroup
	for i := range many - 1 {
		layer := random(8<<20, byte(30+i))
		d := g.addBlob("a", layer)
		wg.Go(func() {
			if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String()); !bytes.Equal(a.body, layer) {
				t.Errorf("whole: status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
		wg.Go(func() {
			a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", "bytes=6000000-6400000")
			if !bytes.Equal(a.body, layer[6_000_000:6_400_001]) {
				t.Errorf("range: status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
	wg.Wait()
}
