package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestSpansBesideFill asks for ranges of an indexed layer while another client pulls all
// of it, from an upstream that sends a wrong byte: what is answered is verified by its
// spans, as if nobody pulled, and comes once where it is right.
func TestSpansBesideFill(t *testing.T) {
	for name, tt := range map[string]struct{ wrong, stays bool }{
		"right": {}, "wrong": {true, true}, "wrong until asked again": {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			layer := tarGz(t, 900)
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			sp := table.Span(table.Len() - 2)
			bad := bytes.Clone(layer)
			bad[sp.Off+10] ^= 1
			goOn := make(chan struct{})
			end := sync.OnceFunc(func() { close(goOn) })
			defer end()
			asked := make(chan int64, 100) // offsets behind the pull's
			g.serve = half(sp.Off+10, func(spoilt bool) []byte {
				if tt.wrong && (tt.stays || !spoilt) {
					return bad
				}
				return layer
			}, goOn, asked)
			resp, _ := s.pulling(t, path, 100)
			defer resp.Body.Close()
			a := getPatiently(t, s, path, "Range", fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1))
			end()
			if tt.stays && (a.status != http.StatusBadGateway || len(asked) != 2) {
				t.Errorf("status %d, %d requests; want 502 after two", a.status, len(asked))
			}
			if !tt.stays && (a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[sp.Off:sp.End])) {
				t.Errorf("status %d, %d bytes, %v; want the span's", a.status, len(a.body), a.err)
			}
			if !tt.wrong && len(asked) != 1 {
				t.Errorf("%d requests for what a fill brings, want 1", len(asked))
			}
		})
	}
}

// half serves what from gives, the beginning of a whole blob until goOn is closed, and
// tells asked where ranges begin. from hears whether the byte at place was sent before.
func half(place int64, from func(spoilt bool) []byte, goOn <-chan struct{}, asked chan<- int64) func(http.ResponseWriter, *http.Request, []byte) bool {
	spoilt := false
	return func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		body := from(spoilt)
		var off, last int64
		n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &off, &last)
		switch {
		case r.Method == http.MethodGet && n == 2:
			spoilt = spoilt || off <= place && place <= last
			asked <- off
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:1<<20])
			_ = http.NewResponseController(w).Flush()
			<-goOn
			_, _ = w.Write(body[1<<20:])
			return true
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return true
	}
}
