package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
)

// TestRangesMidway reads ranges of a blob of which another client's fetch has brought
// the beginning: those that are here, those that upstream is asked for beside that,
// and one that is about to come. Each is exactly what was asked for, and never a 200.
func TestRangesMidway(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	layer := random(9<<20, 51)
	d := g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Method != http.MethodGet || r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:1<<20])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = w.Write(body[1<<20:])
		return true
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	defer goOn()
	clients.Go(func() {
		if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
			t.Errorf("the whole: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	})
	waitFor(t, func() bool { return s.users(d) > 0 && s.arrivedOf(d) >= 1<<20 })

	check := func(header string, first, end int) {
		a := s.do(t, http.MethodGet, path, "Range", header)
		want := fmt.Sprintf("bytes %d-%d/%d", first, end-1, len(layer))
		if a.status != http.StatusPartialContent || a.err != nil || !bytes.Equal(a.body, layer[first:end]) ||
			a.header.Get("Content-Range") != want || a.header.Get("Content-Length") != strconv.Itoa(end-first) || a.header.Get("Accept-Ranges") != "bytes" {
			t.Errorf("%s: %d, %d bytes, %v, headers %v, want %s", header, a.status, len(a.body), a.err, a.header, want)
		}
	}
	clients.Go(func() { check("bytes=2000000-2999999", 2_000_000, 3_000_000) }) // is about to come
	check("bytes=0-1", 0, 2)
	check("bytes=1000-1999", 1000, 2000)
	check("bytes=6000000-6999999", 6_000_000, 7_000_000)
	check(fmt.Sprintf("bytes=9400000-%d", len(layer)-1), 9_400_000, len(layer)) // the last span
	check("bytes=-1000", len(layer)-1000, len(layer))
	clients.Go(func() { check("bytes=9390000-", 9_390_000, len(layer)) }) // the rest: it waits for the digest
	if a := s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-", len(layer))); a.status != http.StatusRequestedRangeNotSatisfiable || a.header.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(layer)) {
		t.Errorf("beyond the end: %d, headers %v", a.status, a.header)
	}
	if a := s.do(t, http.MethodHead, path); a.status != http.StatusOK || a.header.Get("Content-Length") != strconv.Itoa(len(layer)) || a.header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %d, headers %v", a.status, a.header)
	}
	goOn()
}
