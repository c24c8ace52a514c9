package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/sociable/sociable/storage/storagetest"
)

// socket is a ResponseWriter as net/http's is: it takes a file under at most one
// LimitedReader to its socket by the kernel's own copy.
type socket struct {
	*httptest.ResponseRecorder
	byKernel, byCopy int64
}

func (s *socket) Write(p []byte) (int, error) {
	s.byCopy += int64(len(p))
	return s.ResponseRecorder.Write(p)
}

func (s *socket) ReadFrom(r io.Reader) (int64, error) {
	src := r
	if l, ok := r.(*io.LimitedReader); ok {
		src = l.R
	}
	n, err := io.Copy(s.ResponseRecorder, r)
	if _, ok := src.(*os.File); ok {
		s.byKernel += n
	} else {
		s.byCopy += n
	}
	return n, err
}

// TestWarmBlobsGoByTheKernel holds that a body which is in a file reaches the
// socket as that file, whatever stands between: whole, by one range and by
// several, and by spans.
func TestWarmBlobsGoByTheKernel(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	whole := random(3<<20, 51)
	path := "/v2/up/a/blobs/" + g.addBlob("a", whole).String()
	s.do(t, http.MethodGet, path)

	l := storagetest.NewLayer(t, "layer", 2<<20, 512<<10)
	l.Store(t, s.store)
	if _, err := s.store.Purge(t.Context(), l.Digest()); err != nil { // it goes on by its spans
		t.Fatal(err)
	}
	ofSpans := "/v2/up/a/blobs/" + g.addBlob("a", l.Body).String()
	sp := l.Table.Span(1)
	if sp.End-sp.Off < bigSend {
		t.Fatalf("a span of %d bytes is too small for this", sp.End-sp.Off)
	}
	span := fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1)
	s.do(t, http.MethodGet, ofSpans, "Range", span)
	for _, tt := range []struct {
		name, path, ranged string
		want               []byte
		least              int64 // by the kernel
	}{
		{"whole", path, "", whole, 3 << 20},
		{"range", path, "bytes=1000-1000999", whole[1000:1_001_000], 1_000_000},
		{"open-ended", path, "bytes=1000000-", whole[1_000_000:], 3<<20 - 1_000_000},
		{"several", path, "bytes=0-299999,1000000-1299999", nil, 600_000},
		{"span", ofSpans, span, l.Body[sp.Off:sp.End], sp.End - sp.Off},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodGet, tt.path, nil)
			if tt.ranged != "" {
				req.Header.Set("Range", tt.ranged)
			}
			w := &socket{ResponseRecorder: httptest.NewRecorder()}
			s.p.ServeHTTP(w, req)
			if tt.want != nil && !bytes.Equal(w.Body.Bytes(), tt.want) {
				t.Errorf("status %d, %d bytes, want %d", w.Code, w.Body.Len(), len(tt.want))
			}
			if w.byKernel < tt.least || tt.want != nil && w.byCopy > 0 {
				t.Errorf("%d bytes went by the kernel and %d by copy, want %d", w.byKernel, w.byCopy, tt.least)
			}
			if cache := w.Header().Get("X-Cache"); !strings.HasPrefix(cache, "hit") {
				t.Errorf("X-Cache %q", cache)
			}

			req.TLS = &tls.ConnectionState{} // nothing goes by the kernel, or by net/http's own small buffer
			w = &socket{ResponseRecorder: httptest.NewRecorder()}
			s.p.ServeHTTP(w, req)
			if tt.want != nil && !bytes.Equal(w.Body.Bytes(), tt.want) {
				t.Errorf("over TLS: status %d, %d bytes, want %d", w.Code, w.Body.Len(), len(tt.want))
			}
			if w.byKernel > 0 {
				t.Errorf("over TLS: %d bytes are left to net/http", w.byKernel)
			}
		})
	}
}
