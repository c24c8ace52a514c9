package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestOutcomeOfRanges asks for ranges of a blob that is not whole here: X-Cache tells
// of each whether it was here before it was asked for.
func TestOutcomeOfRanges(t *testing.T) {
	const size = 8 << 20
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(size, 7)
	path := "/v2/up/a/blobs/" + g.addBlob("a", layer).String()
	for _, c := range []struct{ ranges, want string }{
		{"bytes=0-1", "miss"},
		{"bytes=0-1", "hit"},
		{"bytes=5000000-5000001", "miss"},
		{"bytes=5000000-5000001", "hit"},
		{"bytes=0-0,5000005-5000006", "hit"},
		{"bytes=7000000-7000000,0-0", "miss"},
		{fmt.Sprint("bytes=", size-10, "-", size+10), "miss"},
		{fmt.Sprint("bytes=", size-10, "-", size+10), "hit"},
		{"bytes=-7", "hit"},
		{"", "miss"},
		{"", "hit"},
		{"bytes=6000000-6000001", "hit"},
	} {
		a := s.do(t, http.MethodGet, path, "Range", c.ranges)
		if a.err != nil || a.status/100 != 2 || a.header.Get("X-Cache") != c.want {
			t.Errorf("%q: %d, X-Cache %s, want %s, %v", c.ranges, a.status, a.header.Get("X-Cache"), c.want, a.err)
		}
	}
}

// TestOutcomeOfFollower has one client ask for what is just being fetched for another.
func TestOutcomeOfFollower(t *testing.T) {
	for _, ranges := range []string{"bytes=0-200000", ""} {
		t.Run(ranges, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
			layer := random(1<<20, 8)
			path := "/v2/up/a/blobs/" + g.addBlob("a", layer).String()
			on := make(chan struct{})
			g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				if r.Header.Get("Range") != "" {
					body = body[:cell]
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(body)-1, len(layer)))
					w.WriteHeader(http.StatusPartialContent)
				}
				_, _ = w.Write(body[:100000])
				_ = http.NewResponseController(w).Flush()
				<-on
				_, _ = w.Write(body[100000:])
				return true
			}
			first := s.begins(t, path, ranges, "miss")
			second := s.begins(t, path, ranges, "follow")
			close(on)
			for _, resp := range []*http.Response{first, second} {
				got, err := io.ReadAll(resp.Body)
				if err != nil || !bytes.HasPrefix(layer, got) || len(got) < 200001 {
					t.Errorf("%d bytes, or others, %v", len(got), err)
				}
				_ = resp.Body.Close()
			}
		})
	}
}

// begins has an answer begin.
func (s *server) begins(t *testing.T, path, ranges, want string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("X-Cache"); resp.StatusCode/100 != 2 || got != want {
		t.Errorf("%q: %d, X-Cache %s, want %s", ranges, resp.StatusCode, got, want)
	}
	return resp
}
