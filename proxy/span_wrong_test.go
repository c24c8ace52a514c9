package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/upstream"
)

// TestWrongSpansOneConnection has an upstream that takes one request at a time send a
// run of spans of which two are wrong: they are asked for again when the run is over,
// and the upstream goes on answering others.
func TestWrongSpansOneConnection(t *testing.T) {
	for _, stays := range []bool{false, true} {
		t.Run(fmt.Sprintf("stays wrong %v", stays), func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, oneConnection(t, g))
			layer := tarGz(t, 60)
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			s.do(t, "HEAD", path) // the right
			g.take()
			bad := bytes.Clone(layer)
			bad[table.Span(2).Off+10] ^= 1
			bad[table.Span(4).Off+10] ^= 1
			var sent atomic.Int64
			g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				if len(body) == len(bad) && (sent.Add(1) == 1 || stays) {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
					return true
				}
				return false
			}
			off, end := table.Span(2).Off, table.Span(6).End
			a := getPatiently(t, s, path, "Range", fmt.Sprintf("bytes=%d-%d", off, end-1))
			if stays && a.status != http.StatusBadGateway {
				t.Errorf("stays wrong: status %d, %v", a.status, a.err)
			}
			if !stays && (a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[off:end])) {
				t.Errorf("wrong once: status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			if asked := g.take(); !stays && len(asked) != 3 {
				t.Errorf("upstream requests %q, want the run and each wrong span", asked)
			}
			waitFor(t, func() bool { // for what comes behind the answer
				s.p.mu.Lock()
				defer s.p.mu.Unlock()
				return len(s.p.spanRuns) == 0
			})
			again := table.Span(2).End - table.Span(2).Off + table.Span(4).End - table.Span(4).Off
			if sum, _ := s.p.readings.get(d); !stays && sum.bytes != end-off+again {
				t.Errorf("%d bytes are counted, want %d and %d for what was asked for again", sum.bytes, end-off, again)
			}
			other := random(1000, 9)
			a = getPatiently(t, s, "/v2/up/a/blobs/"+g.addBlob("a", other).String())
			if a.status != http.StatusOK || !bytes.Equal(a.body, other) {
				t.Errorf("another blob: status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
}

// oneConnection has the upstream's client make one request at a time.
func oneConnection(t *testing.T, g *registry) func(*Options) {
	t.Helper()
	u, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := upstream.New(upstream.Options{Name: "up", URL: u, MaxConnections: 1, StallTimeout: time.Minute, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(o *Options) { o.Upstreams[0].Registry = c }
}

// getPatiently makes one GET, which is given up where it takes half a minute.
func getPatiently(t *testing.T, s *server, path string, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return answer{err: err, header: http.Header{}}
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return answer{resp.StatusCode, resp.Header, body.Bytes(), err}
}
