package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// refusesRanges answers 416 to the first n GETs; says is its Content-Range, "": none.
func refusesRanges(n int32, says string) func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
	var asked atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method != http.MethodGet || asked.Add(1) > n {
			return false
		}
		if says != "" {
			w.Header().Set("Content-Range", says)
		}
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
}

const always = 1 << 30

// TestUpstreamThatDenies has an upstream answer 416 to bytes that there are: it is
// asked again, and no client is told that its range is wrong.
func TestUpstreamThatDenies(t *testing.T) {
	layer := random(1<<20, 81)
	for _, says := range []string{"", "bytes */777", "bytes */0", "bytes */*", fmt.Sprintf("bytes */%d", len(layer))} {
		for _, ranged := range []string{"", "bytes=0-5", "bytes=0-", "bytes=1000-1999", "bytes=-5", "bytes=0-5,900-909"} {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			d := g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			header := []string{"Range", ranged}
			if ranged == "" {
				header = nil
			}
			g.serveAs(refusesRanges(always, says))
			want := http.StatusServiceUnavailable
			a := s.do(t, http.MethodGet, path, header...)
			if a.status == http.StatusBadGateway && ranged == "bytes=-5" { // it contradicts its own HEAD
				want = a.status
			}
			wantCode(t, fmt.Sprintf("%q, %q", says, ranged), a, want, "UNAVAILABLE")
			waitFor(t, func() bool { return fillOf(s, d.String()) == nil })
			g.serveAs(refusesRanges(1, says))
			if a := s.do(t, http.MethodGet, path, header...); a.status/100 != 2 || a.err != nil {
				t.Errorf("%q once, %q: %d %s, %v", says, ranged, a.status, a.body, a.err)
			}
		}
	}
}

// TestDeniedOfKnownSize is the same where the size is known here: from a range that
// came before, and of an indexed layer. What is beyond it is the client's mistake.
func TestDeniedOfKnownSize(t *testing.T) {
	const ranged = "bytes=500000-500009"
	layer, plain := tarGz(t, 60), random(1<<20, 82)
	for _, says := range []string{"", "bytes */777", "bytes */*"} {
		g := newRegistry(t)
		s := newServer(t, g, nil)
		d, _ := index(t, s, layer)
		for _, blob := range []struct {
			path string
			body []byte
		}{
			{"/v2/up/a/blobs/" + g.addBlob("a", plain).String(), plain},
			{"/v2/up/a/blobs/" + d.String(), layer},
		} {
			g.addBlob("a", blob.body)
			s.do(t, http.MethodGet, blob.path, "Range", "bytes=0-9")
			s.do(t, http.MethodHead, blob.path) // the right
			if len(blob.body) < 500_010 {
				t.Fatalf("%d bytes", len(blob.body))
			}
			g.serveAs(refusesRanges(always, says))
			beyond := s.do(t, http.MethodGet, blob.path, "Range", fmt.Sprintf("bytes=%d-", len(blob.body)))
			wantCode(t, "beyond", beyond, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
			if got, want := beyond.header.Get("Content-Range"), fmt.Sprintf("bytes */%d", len(blob.body)); got != want {
				t.Errorf("beyond: %s, want %s", got, want)
			}
			g.serveAs(refusesRanges(1, says))
			if a := s.do(t, http.MethodGet, blob.path, "Range", ranged); a.status != http.StatusPartialContent || !bytes.Equal(a.body, blob.body[500_000:500_010]) {
				t.Errorf("%q once: %d %q, %v", says, a.status, a.body, a.err)
			}
		}
	}
}

// TestSpansDenied has the upstream lie about the size of an indexed layer.
func TestSpansDenied(t *testing.T) {
	another := func(n int32) func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		var asked atomic.Int32
		return func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if asked.Add(1) > n {
				return false
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(bytes.Clone(body), "more"...)))
			return true
		}
	}
	for name, tc := range map[string]struct {
		serve func(n int32) func(w http.ResponseWriter, r *http.Request, body []byte) bool
		want  int
	}{
		"denies":        {func(n int32) func(http.ResponseWriter, *http.Request, []byte) bool { return refusesRanges(n, "") }, http.StatusServiceUnavailable},
		"another total": {another, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			layer := tarGz(t, 60)
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			s.do(t, http.MethodHead, path) // the right
			off, end := table.Span(2).Off, table.Span(3).End
			ranged := fmt.Sprintf("bytes=%d-%d", off, end-1)
			g.serveAs(tc.serve(always))
			wantCode(t, "always", s.do(t, http.MethodGet, path, "Range", ranged), tc.want, "UNAVAILABLE")
			g.serveAs(tc.serve(1))
			if a := s.do(t, http.MethodGet, path, "Range", ranged); a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[off:end]) {
				t.Errorf("once: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
}
