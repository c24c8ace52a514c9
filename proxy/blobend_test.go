package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// unmeasured are upstreams that do not say how long a blob is: each answers a GET
// of body in its way.
var unmeasured = map[string]func(w http.ResponseWriter, r *http.Request, body []byte){
	"whole always": func(w http.ResponseWriter, _ *http.Request, body []byte) { trickle(w, body) },
	"ranges": func(w http.ResponseWriter, r *http.Request, body []byte) {
		rangeOf(w, r, body, len(body))
	},
	"short ranges": func(w http.ResponseWriter, r *http.Request, body []byte) {
		rangeOf(w, r, body, 100_000)
	},
}

// trickle sends body without a length.
func trickle(w http.ResponseWriter, body []byte) {
	for len(body) > 0 {
		n := min(len(body), 50_000)
		_, _ = w.Write(body[:n])
		_ = http.NewResponseController(w).Flush()
		body = body[n:]
	}
}

// rangeOf sends the range that was asked for, or the first most bytes of it,
// without saying of how many.
func rangeOf(w http.ResponseWriter, r *http.Request, body []byte, most int) {
	from, to, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	if !ok {
		trickle(w, body)
		return
	}
	off, _ := strconv.Atoi(from)
	end := len(body)
	if last, err := strconv.Atoi(to); err == nil {
		end = min(end, last+1)
	}
	if off >= end {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	end = min(end, off+most)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", off, end-1))
	w.WriteHeader(http.StatusPartialContent)
	trickle(w, body[off:end])
}

// TestTailOfUnmeasured asks for a blob's tail first, of an upstream that does not
// say how long the blob is, and then for all of it, also after a restart.
func TestTailOfUnmeasured(t *testing.T) {
	for name, serve := range unmeasured {
		for _, ranged := range []string{"bytes=300000-", "bytes=300000-310000", "bytes=599999-", "bytes=900000-", "bytes=0-0,599000-"} {
			t.Run(name+" "+ranged, func(t *testing.T) { tailOfUnmeasured(t, serve, ranged) })
		}
	}
}

func tailOfUnmeasured(t *testing.T, serve func(http.ResponseWriter, *http.Request, []byte), ranged string) {
	g := newRegistry(t)
	layer := random(600_000, 3)
	d := g.addBlob("a", layer)
	g.serveAs(func(w http.ResponseWriter, r *http.Request, body []byte) bool { serve(w, r, body); return true })
	path := "/v2/up/a/blobs/" + d.String()
	dir := t.TempDir()
	for range 2 {
		s := newServerAt(t, dir, g, nil, nil)
		switch a := s.do(t, http.MethodGet, path, "Range", ranged); {
		case a.status == http.StatusRequestedRangeNotSatisfiable && strings.HasPrefix(ranged, "bytes=9"):
		case a.status/100 != 2 || a.err != nil || a.status == http.StatusOK && !bytes.Equal(a.body, layer):
			t.Errorf("%s: %d, %d bytes, %v", ranged, a.status, len(a.body), a.err)
		}
		for range 2 {
			if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("the whole: %d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
			}
		}
		s.stop()
	}
}

// TestUnmeasuredOfBefore goes on with what an earlier process left: all of a blob,
// or its front, and not that this is all.
func TestUnmeasuredOfBefore(t *testing.T) {
	layer := random(600_000, 4)
	for name, serve := range unmeasured {
		for _, have := range []int64{300_000, 600_000, 650_000} {
			t.Run(fmt.Sprint(name, " ", have), func(t *testing.T) {
				g := newRegistry(t)
				d := g.addBlob("a", layer)
				g.serveAs(func(w http.ResponseWriter, r *http.Request, body []byte) bool { serve(w, r, body); return true })
				s := newServer(t, g, nil)
				part, err := s.store.OpenPartialFrom(t.Context(), d, "up")
				if err != nil {
					t.Fatal(err)
				}
				left := append(bytes.Clone(layer), random(50_000, 5)...)[:have]
				if _, err := part.WriteAt(left, 0); err != nil {
					t.Fatal(err)
				}
				if err := part.Checkpoint(t.Context(), -1, []oci.Range{{End: have}}); err != nil {
					t.Fatal(err)
				}
				if err := part.Close(); err != nil {
					t.Fatal(err)
				}
				path := "/v2/up/a/blobs/" + d.String()
				if have > int64(len(layer)) { // more than there is: told, and not kept
					if a := s.do(t, http.MethodGet, path); a.status == http.StatusOK && a.err == nil {
						t.Errorf("%d bytes, some of them wrong, were sent as the whole", len(a.body))
					}
					waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
				}
				if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
					t.Errorf("the whole: %d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
				}
			})
		}
	}
}
