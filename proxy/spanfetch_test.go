package proxy

import (
	"bytes"
	"fmt"
	"io"
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
			var spoilt bool
			g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				from := body
				if tt.wrong && (tt.stays || !spoilt) {
					from = bad
				}
				var off, last int64
				if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &off, &last); n == 2 && r.Method == http.MethodGet {
					spoilt = spoilt || off <= sp.Off && sp.Off+10 <= last
					asked <- off
				} else if r.Method == http.MethodGet {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					_, _ = w.Write(from[:1<<20])
					_ = http.NewResponseController(w).Flush()
					<-goOn
					_, _ = w.Write(from[1<<20:])
					return true
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(from))
				return true
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadFull(resp.Body, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
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
