package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

func TestPullThroughOnce(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(3<<20, 1)
	d := g.addBlob("lib/app", layer)
	body := image(oci.EmptyDigest, d, len(layer))
	m := g.addManifest("lib/app", "v1", v1.MediaTypeImageManifest, body)

	paths := []string{"/v2/up/lib/app/manifests/v1", "/v2/lib/app/manifests/" + m.String() + "?ns=up", "/v2/up/lib/app/blobs/" + d.String()}
	for _, round := range []string{"miss", "hit"} {
		for _, path := range paths {
			a := s.do(t, "GET", path)
			want := []byte(body)
			if strings.Contains(path, "/blobs/") {
				want = layer
			} else if got := a.header.Get("Content-Type"); got != v1.MediaTypeImageManifest {
				t.Errorf("%s: Content-Type %q", path, got)
			}
			if a.status != 200 || a.err != nil || !bytes.Equal(a.body, want) {
				t.Fatalf("%s: status %d, %d bytes, %v", path, a.status, len(a.body), a.err)
			}
			if got := a.header.Get("X-Cache"); got != round && !strings.Contains(path, "sha256:"+m.Encoded()) {
				t.Errorf("%s: X-Cache %q, want %q", path, got, round)
			}
			h := s.do(t, "HEAD", path)
			if h.status != 200 || len(h.body) != 0 || h.header.Get("Content-Length") != a.header.Get("Content-Length") ||
				h.header.Get("Docker-Content-Digest") != a.header.Get("Docker-Content-Digest") {
				t.Errorf("HEAD %s: status %d, headers %v", path, h.status, h.header)
			}
		}
		want := []string{"GET manifests", "GET blobs"}
		if round == "hit" {
			want = nil
		}
		if diff := cmp.Diff(want, g.take()); diff != "" {
			t.Errorf("upstream requests of the %s round (-want +got):\n%s", round, diff)
		}
	}
}

func TestManyClientsOneFetch(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(5<<20, 2)
	d := g.addBlob("a", layer)
	release := make(chan struct{})
	var waiting atomic.Int32
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Method == http.MethodGet {
			waiting.Add(1)
			<-release
		}
		return false
	}
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String())
			if a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
	waitFor(t, func() bool { return waiting.Load() > 0 })
	close(release)
	wg.Wait()
	if diff := cmp.Diff([]string{"GET blobs"}, g.take()); diff != "" {
		t.Errorf("upstream requests (-want +got):\n%s", diff)
	}
}

// waitFor polls without a fixed pause, a minute at most: a failure ends one
// test and not the whole run.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("never became true")
		case <-time.After(time.Millisecond):
		}
	}
}

// pulling begins a GET and reads n bytes of its body.
func (s *server) pulling(t *testing.T, path string, n int) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(resp.Body, got); err != nil {
		resp.Body.Close()
		t.Fatal(err)
	}
	return resp, got
}

// TestWrongBytes holds that no client gets a complete body that is not what
// its digest says, that nothing is kept of it, and that the next try is clean.
func TestWrongBytes(t *testing.T) {
	for _, size := range []int{100, 70_000, 2 << 20} {
		g := newRegistry(t)
		s := newServer(t, g, nil)
		layer := random(size, 3)
		d := g.addBlob("a", layer)
		wrong := bytes.Clone(layer)
		wrong[0] ^= 1
		g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wrong))
			return true
		}
		a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String())
		if a.status == 200 && (a.err == nil || len(a.body) >= size) {
			t.Errorf("size %d: a complete wrong body: %d bytes, %v", size, len(a.body), a.err)
		}
		g.mu.Lock()
		g.serve = nil
		g.mu.Unlock()
		waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
		a = s.do(t, "GET", "/v2/up/a/blobs/"+d.String())
		if a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
			t.Errorf("size %d: second try: status %d, %d bytes, %v", size, a.status, len(a.body), a.err)
		}
	}
}

// TestOnlyOwnRepository holds that cached bytes of one repository are not read
// through another that does not have them: whole, in flight, or by range.
func TestOnlyOwnRepository(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(1<<20, 5)
	d := g.addBlob("private", layer)
	m := g.addManifest("private", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(layer)))
	s.do(t, "GET", "/v2/up/private/blobs/"+d.String())
	s.do(t, "GET", "/v2/up/private/manifests/v1")
	for _, header := range [][]string{nil, {"Range", "bytes=0-9"}} {
		for _, path := range []string{"blobs/" + d.String(), "manifests/" + m.String()} {
			for _, method := range []string{"GET", "HEAD"} {
				if a := s.do(t, method, "/v2/up/other/"+path, header...); a.status != 404 {
					t.Errorf("%s %s: status %d", method, path, a.status)
				}
			}
		}
	}
	// the same bytes under a repository that does have them cost one HEAD
	g.addBlob("fork", layer)
	g.take()
	if a := s.do(t, "GET", "/v2/up/fork/blobs/"+d.String()); a.status != 200 || !bytes.Equal(a.body, layer) {
		t.Errorf("fork: status %d", a.status)
	}
	if diff := cmp.Diff([]string{"HEAD blobs"}, g.take()); diff != "" {
		t.Errorf("upstream requests (-want +got):\n%s", diff)
	}
}

func TestNotModified(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(1000, 7)
	d := g.addBlob("a", layer)
	for _, round := range []struct{ method, asked string }{{"GET", "HEAD blobs"}, {"HEAD", ""}, {"GET", ""}} {
		a := s.do(t, round.method, "/v2/up/a/blobs/"+d.String(), "If-None-Match", etag(d))
		if a.status != 304 || len(a.body) != 0 || a.header.Get("Etag") != etag(d) {
			t.Errorf("%s: status %d, headers %v", round.method, a.status, a.header)
		}
		if got := strings.Join(g.take(), ","); got != round.asked {
			t.Errorf("%s: upstream was asked %q, want %q", round.method, got, round.asked)
		}
	}
	if a := s.do(t, "GET", "/v2/up/other/blobs/"+d.String(), "If-None-Match", etag(d)); a.status != 404 {
		t.Errorf("a repository without the blob: status %d", a.status)
	}
	if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "If-None-Match", `"sha256:other"`); a.status != 200 || !bytes.Equal(a.body, layer) {
		t.Errorf("another entity tag: status %d", a.status)
	}
}

func TestInFlightBelongsToItsRepository(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(1<<20, 6)
	d := g.addBlob("private", layer)
	release, began := make(chan struct{}), make(chan struct{})
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Method == http.MethodGet {
			close(began)
			<-release
		}
		return false
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.do(t, "GET", "/v2/up/private/blobs/"+d.String()) })
	<-began
	if a := s.do(t, "GET", "/v2/up/other/blobs/"+d.String()); a.status != 404 {
		t.Errorf("joined another repository's transfer: status %d", a.status)
	}
	close(release)
	wg.Wait()
}

func TestTagWhenUpstreamIsAway(t *testing.T) {
	g := newRegistry(t)
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s := newServer(t, g, func(o *Options) { o.Now = clock; o.Upstreams[0].TagTTL = time.Minute })
	body := image(oci.EmptyDigest, oci.EmptyDigest, 2)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	s.do(t, "GET", "/v2/up/a/manifests/v1")
	g.take()
	later := func() { mu.Lock(); now = now.Add(2 * time.Minute); mu.Unlock() }

	later()
	if a := s.do(t, "GET", "/v2/up/a/manifests/v1"); a.status != 200 || a.header.Get("Warning") != "" {
		t.Errorf("unmoved: status %d, Warning %q", a.status, a.header.Get("Warning"))
	}
	if diff := cmp.Diff([]string{"HEAD manifests"}, g.take()); diff != "" {
		t.Errorf("upstream requests (-want +got):\n%s", diff)
	}
	moved := image(oci.EmptyDigest, digest.FromString("x"), 1)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, moved)
	later()
	if a := s.do(t, "GET", "/v2/up/a/manifests/v1"); string(a.body) != moved {
		t.Errorf("moved: got %s", a.body)
	}
	g.CloseClientConnections()
	g.Close()
	later()
	a := s.do(t, "GET", "/v2/up/a/manifests/v1")
	if a.status != 200 || string(a.body) != moved || !strings.HasPrefix(a.header.Get("Warning"), `299 - "stale: `) {
		t.Errorf("away: status %d, Warning %q", a.status, a.header.Get("Warning"))
	}
}

func TestBadNames(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	d := digest.FromString("x").String()
	tests := []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/up/../../etc/passwd/blobs/" + d, 400, "NAME_INVALID"},
		{"GET", "/v2/up/%2e%2e/%2e%2e/etc/blobs/" + d, 400, "NAME_INVALID"},
		{"GET", "/v2/up//a/blobs/" + d, 400, "NAME_INVALID"},
		{"GET", "/v2/up/a%0d%0ab/blobs/" + d, 400, "NAME_INVALID"},
		{"GET", "/v2/UP/a/blobs/" + d, 400, "NAME_INVALID"},
		{"GET", "/v2/up/a/blobs/sha256:zz", 400, "DIGEST_INVALID"},
		{"GET", "/v2/up/a/blobs/sha256:" + strings.Repeat("A", 64), 400, "DIGEST_INVALID"},
		{"GET", "/v2/up/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"},
		{"GET", "/v2/up/a/blobs/..%2f..%2fpasswd", 400, "NAME_INVALID"},
		{"GET", "/v2/up/a/manifests/" + strings.Repeat("x", 129), 400, "TAG_INVALID"},
		{"GET", "/v2/up/a/manifests/sha256:12", 400, "DIGEST_INVALID"},
		{"GET", "/v2/" + strings.Repeat("a/", 200) + "b/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/evil.example/a/manifests/v1", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/a/manifests/v1?ns=evil.example", 404, "NAME_UNKNOWN"},
		{"PUT", "/v2/up/a/manifests/v1", 405, "UNSUPPORTED"},
		{"POST", "/v2/up/a/blobs/uploads/", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/up/a/blobs/" + d, 405, "UNSUPPORTED"},
		{"GET", "/v2/up/a/blobs/" + d, 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/up/a/manifests/nope", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/up/a/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/nothing", 404, "UNSUPPORTED"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path[:min(40, len(tt.path))], func(t *testing.T) {
			a := s.do(t, tt.method, tt.path)
			if a.status != tt.status || !strings.Contains(string(a.body), `"`+tt.code+`"`) {
				t.Errorf("status %d, body %s; want %d %s", a.status, a.body, tt.status, tt.code)
			}
			if ct := a.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type %q", ct)
			}
		})
	}
}
