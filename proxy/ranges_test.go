package proxy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestRangesLikeServeContent holds every answer to a Range against net/http's
// on the same bytes: of a blob that is whole here, and of one that is not. Two
// things are done otherwise: a malformed header counts as absent, which RFC 9110
// §14.2 leaves to the server and §14.1.1 asks for with a unit that is not known,
// and a suffix of no bytes, and a range that ends before it begins, are
// unsatisfiable (§14.1.2, §14.2).
func TestRangesLikeServeContent(t *testing.T) {
	g := newRegistry(t)
	layer := random(1<<20+37, 4)
	size := len(layer)
	headers := []string{
		"", "bytes=0-0", "bytes=0-1", "bytes=5-99", "bytes=-1", "bytes=-500", "bytes=0-", "bytes=1048000-", "bytes=300000-800000",
		"bytes=1048612-", "bytes=1048613-", "bytes=9999999-", "bytes=5-2", "bytes=a-b", "chars=0-5", "bytes=", "bytes=0-9,20-29",
		"bytes=0-9, 500000-500009 ,-5", "bytes=9999999-,0-1", "bytes=-0", "bytes=0-99999999", "bytes=262143-262144", "bytes=-99999999",
	}
	for _, kind := range []string{"cold", "whole"} {
		for _, h := range headers {
			t.Run(kind+" "+h, func(t *testing.T) {
				s := newServer(t, g, nil)
				d := g.addBlob("a", layer)
				path := "/v2/up/a/blobs/" + d.String()
				if kind == "whole" {
					s.do(t, "GET", path)
				}
				want := httptest.NewRecorder()
				want.Header().Set("Etag", etag(d))
				want.Header().Set("Content-Type", "application/octet-stream")
				r := httptest.NewRequest("GET", path, nil)
				switch h {
				case "bytes=a-b", "chars=0-5":
				case "bytes=-0", "bytes=5-2":
					r.Header.Set("Range", "bytes=9999999-")
				default:
					r.Header.Set("Range", h)
				}
				http.ServeContent(want, r, "", time.Time{}, bytes.NewReader(layer))
				got := s.do(t, "GET", path, "Range", h)
				compareAnswers(t, got, want, size)
			})
		}
	}
}

// TestRangesOfNothing does the same with a blob of no bytes, by GET and by HEAD:
// there a range is no reason to refuse anything.
func TestRangesOfNothing(t *testing.T) {
	g := newRegistry(t)
	d := g.addBlob("a", nil)
	path := "/v2/up/a/blobs/" + d.String()
	for _, h := range []string{"", "bytes=0-", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=0-0,5-9"} {
		t.Run(h, func(t *testing.T) {
			s := newServer(t, g, nil)
			for _, state := range []string{"cold", "whole"} {
				for _, method := range []string{http.MethodHead, http.MethodGet} { // which brings it
					want := httptest.NewRecorder()
					r := httptest.NewRequest(method, path, nil)
					if h != "bytes=-5" { // net/http's "bytes 0--1/0" is no range (RFC 9110 §14.4)
						r.Header.Set("Range", h)
					}
					want.Header().Set("Content-Type", "application/octet-stream")
					http.ServeContent(want, r, "", time.Time{}, bytes.NewReader(nil))
					got := s.do(t, method, path, "Range", h)
					compareAnswers(t, got, want, 0)
					if n := got.header.Get("Content-Length"); n != "0" || got.status != http.StatusOK {
						t.Errorf("%s %s: status %d, Content-Length %q", state, method, got.status, n)
					}
				}
			}
		})
	}
}

// TestConditionalRangesLikeServeContent does the same with preconditions: of a
// blob that is cold, one that is whole here, and one that is read by spans.
func TestConditionalRangesLikeServeContent(t *testing.T) {
	g := newRegistry(t)
	layer := tarGz(t, 60)
	d := g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	cold := newServer(t, g, nil)
	whole := newServer(t, g, nil)
	whole.do(t, "GET", path)
	spans := newServer(t, g, nil)
	index(t, spans, layer)
	for kind, s := range map[string]*server{"cold": cold, "whole": whole, "spans": spans} {
		for _, h := range [][]string{
			{"Range", "bytes=10-99", "If-Range", etag(d)},
			{"Range", "bytes=10-99", "If-Range", `"sha256:other"`},
			{"Range", "bytes=10-99", "If-Range", "W/" + etag(d)},
			{"Range", "bytes=10-99", "If-Range", "Wed, 21 Oct 2015 07:28:00 GMT"},
			{"Range", "bytes=99999999-", "If-Range", etag(d)},
			{"Range", "bytes=99999999-", "If-Range", `"sha256:other"`},
			{"Range", "bytes=0-9,100000-200000,-7", "If-Range", etag(d)},
			{"Range", "bytes=100-199", "If-None-Match", etag(d)},
			{"Range", "bytes=100-199", "If-None-Match", `"sha256:other"`},
			{"If-Match", `"sha256:other"`},
			{"If-Match", "W/" + etag(d)},
			{"If-Match", `"sha256:other"`, "If-None-Match", etag(d)},
			{"If-Match", `"sha256:other", ` + etag(d), "Range", "bytes=100-199"},
			{"If-Match", "*", "Range", "bytes=100-199"},
			{"Range", "bytes=0-1"},
			{"Range", "bytes=-1000"},
			{"Range", "bytes=150000-"},
			{"Range", "bytes=65535-65536,131000-131100"},
		} {
			t.Run(kind+" "+strings.Join(h, " "), func(t *testing.T) {
				want := httptest.NewRecorder()
				want.Header().Set("Etag", etag(d))
				want.Header().Set("Content-Type", "application/octet-stream")
				r := httptest.NewRequest("GET", path, nil)
				for i := 0; i < len(h); i += 2 {
					r.Header.Set(h[i], h[i+1])
				}
				http.ServeContent(want, r, "", time.Time{}, bytes.NewReader(layer))
				compareAnswers(t, s.do(t, "GET", path, h...), want, len(layer))
			})
		}
	}
}

func compareAnswers(t *testing.T, got answer, want *httptest.ResponseRecorder, size int) {
	t.Helper()
	if got.status != want.Code || got.err != nil {
		t.Fatalf("status %d, %v, want %d", got.status, got.err, want.Code)
	}
	if g, w := got.header.Get("Content-Range"), want.Header().Get("Content-Range"); g != w {
		t.Errorf("Content-Range %q, want %q", g, w)
	}
	if got.header.Get("Accept-Ranges") != "bytes" {
		t.Error("no Accept-Ranges")
	}
	if got.status == http.StatusRequestedRangeNotSatisfiable {
		return // the body is the specification's error, not net/http's text
	}
	g, w := got.body, want.Body.Bytes()
	if b := boundary(got.header); b != "" {
		g = bytes.ReplaceAll(g, []byte(b), []byte("B"))
		w = bytes.ReplaceAll(w, []byte(boundary(want.Header())), []byte("B"))
	}
	if !bytes.Equal(g, w) {
		t.Errorf("body of %d bytes differs from net/http's %d", len(g), len(w))
	}
}

func boundary(h http.Header) string {
	_, b, _ := strings.Cut(h.Get("Content-Type"), "boundary=")
	return b
}

// TestPreconditionsOfTheAbsent: what is refused without preconditions is refused
// with them (RFC 9110 §13.2.1), whoever has the blob.
func TestPreconditionsOfTheAbsent(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true}) })
	here := g.addBlob("a", random(1000, 1))
	absent := digest.FromString("absent")
	s.do(t, http.MethodGet, "/v2/up/a/blobs/"+here.String())
	for _, path := range []string{
		"/v2/up/none/blobs/" + here.String(), "/v2/up/a/blobs/" + absent.String(), "/v2/local/a/blobs/" + here.String(),
	} {
		for _, name := range []string{"If-Match", "If-None-Match"} {
			for _, tag := range []string{`"x"`, "*", etag(here), etag(absent)} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if a := s.do(t, method, path, name, tag); a.status != http.StatusNotFound {
						t.Errorf("%s %s with %s: %s: %d", method, path, name, tag, a.status)
					}
				}
			}
		}
	}
}
