package proxy

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
)

// TestOpenPartIsVerified asks for a blob's rest as one of several ranges: it does not
// come to its end where the blob is not its digest's, and does where it is, in any order.
func TestOpenPartIsVerified(t *testing.T) {
	for _, ranges := range []string{"bytes=1-1,2-", "bytes=2-,0-0", "bytes=5-9,100-200,300-"} {
		for _, wrong := range []bool{false, true} {
			t.Run(ranges, func(t *testing.T) {
				g := newRegistry(t)
				x := newWrongLayer(g, false)
				x.mended.Store(true)
				if !wrong {
					x.bytes[1000] ^= 1
				}
				s := newServer(t, g, nil)
				a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+x.d.String(), "Range", ranges)
				if whole := a.err == nil; whole == wrong {
					t.Errorf("wrong %t: %d, %d bytes, %v", wrong, a.status, len(a.body), a.err)
				}
				if !wrong {
					x.wantOpenPart(t, a)
				}
			})
		}
	}
}

// wantOpenPart finds the part that goes to the blob's end in an answer.
func (x *wrongLayer) wantOpenPart(t *testing.T, a answer) {
	t.Helper()
	_, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"]); ; {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatalf("no part goes to the end: %v", err)
		}
		if got, err := io.ReadAll(p); err == nil && len(got) > len(x.bytes)/2 && bytes.HasSuffix(x.bytes, got) {
			return
		}
	}
}

// TestResumedInFullStoreIsVerified: a pull breaks off, the store becomes full of what
// stays, and the client goes on. What it has is held against the digest all the same.
func TestResumedInFullStoreIsVerified(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		g := newRegistry(t)
		x := newWrongLayer(g, false)
		if !wrong {
			x.bytes[1000] ^= 1
		}
		s := newServerAt(t, t.TempDir(), g, func(o *Options) {
			o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
		}, func(o *storage.Options) { o.MaxBytes = 8 << 20 })
		path := "/v2/up/a/blobs/" + x.d.String()
		got := x.firstHalf(t, s, path, false)
		waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, x.d); return !filling })
		s.pushBlob(t, "local/a", random(5<<20, 2))
		x.mended.Store(true)
		a := s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-", len(got)))
		if whole := a.err == nil && bytes.Equal(append(got, a.body...), x.bytes); whole == wrong {
			t.Errorf("wrong %t: %d and, by %d, %d bytes, %v", wrong, len(got), a.status, len(a.body), a.err)
		}
		if n := testutil.ToFloat64(s.p.metrics.passed); n != 1 {
			t.Errorf("%v were passed on, want this one", n)
		}
	}
}
