package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestBlocked asks for a digest that an operator keeps out, in every way and
// under every name, known here or not.
func TestBlocked(t *testing.T) {
	for _, known := range []bool{false, true} {
		for _, ttl := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprintf("known %t, ttl %v", known, ttl), func(t *testing.T) { testBlocked(t, known, ttl) })
		}
	}
}

func testBlocked(t *testing.T, known bool, ttl time.Duration) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].TagTTL = ttl })
	layer := random(300<<10, 7)
	var d, m digest.Digest
	for _, repo := range []string{"a", "b"} {
		d = g.addBlob(repo, layer)
		m = g.addManifest(repo, "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(layer)))
	}
	good := g.addManifest("a", "v2", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, 1))
	paths := func(repo string) []string {
		return []string{
			"/v2/up/" + repo + "/manifests/v1", "/v2/up/" + repo + "/manifests/" + m.String(), "/v2/up/" + repo + "/blobs/" + d.String(),
		}
	}
	if known {
		for _, path := range paths("a") {
			if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK {
				t.Fatalf("%s: %d %s", path, a.status, a.body)
			}
		}
	}
	for _, d := range []digest.Digest{d, m} {
		if err := s.store.Block(t.Context(), storage.BlockRow{Digest: d}); err != nil {
			t.Fatal(err)
		}
	}
	for _, repo := range []string{"a", "b"} {
		for _, path := range paths(repo) {
			for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodGet} {
				a := s.do(t, method, path)
				told := bytes.Contains(a.body, []byte(`"DENIED"`)) && bytes.Contains(a.body, []byte("blocked by the operator"))
				if a.status != http.StatusForbidden || told != (method == http.MethodGet) {
					t.Errorf("%s %s: %d %s, want 403 DENIED", method, path, a.status, a.body)
				}
			}
			if a := s.do(t, http.MethodGet, path, "Range", "bytes=0-9"); a.status != http.StatusForbidden {
				t.Errorf("range of %s: %d, want 403", path, a.status)
			}
		}
	}
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v2"); a.status != http.StatusOK || digest.FromBytes(a.body) != good {
		t.Errorf("another tag of the repository: %d", a.status)
	}
	// the tag moves to something else: that is served
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, 2))
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1"); a.status != http.StatusOK {
		t.Errorf("the tag, when it has moved: %d %s", a.status, a.body)
	}
	if err := s.store.Unblock(t.Context(), d, m); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths("b") {
		if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK {
			t.Errorf("%s, let in again: %d %s", path, a.status, a.body)
		}
	}
}

// TestFullOfPins pulls an image through a store that is full of what may not go.
func TestFullOfPins(t *testing.T) {
	const limit = 1 << 20
	g := newRegistry(t)
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = limit })
	pinned := random(900<<10, 1)
	d := g.addBlob("a", pinned)
	m := g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(pinned)))
	for _, path := range []string{"/v2/up/a/manifests/v1", "/v2/up/a/blobs/" + d.String()} {
		if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK {
			t.Fatalf("%s: %d", path, a.status)
		}
	}
	if _, err := s.store.Pin(t.Context(), "up/a:v1", m); err != nil {
		t.Fatal(err)
	}
	filler := random(int(limit-s.store.Usage().Total()), 2) // to the last byte
	row := storage.BlobRow{Digest: digest.FromBytes(filler), Kind: storage.KindManifest}
	if err := s.store.Put(t.Context(), row, filler, nil); err != nil {
		t.Fatal(err)
	}
	layer := random(300<<10, 3)
	other := g.addBlob("b", layer)
	g.addManifest("b", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, other, len(layer)))
	for range 2 {
		if a := s.do(t, http.MethodGet, "/v2/up/b/manifests/v1"); a.status != http.StatusOK || !bytes.Contains(a.body, []byte(other)) {
			t.Errorf("manifest: %d %s", a.status, a.body)
		}
		if a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+other.String()); a.status != http.StatusOK || digest.FromBytes(a.body) != other {
			t.Errorf("blob: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
		if a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+other.String(), "Range", "bytes=1000-1999"); a.status != http.StatusPartialContent ||
			!bytes.Equal(a.body, layer[1000:2000]) {
			t.Errorf("range: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	}
	if n := s.store.Usage().Total(); n > limit {
		t.Errorf("%d bytes are stored, the limit is %d", n, limit)
	}
	if a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String()); digest.FromBytes(a.body) != d || a.header.Get("X-Cache") != "hit" {
		t.Errorf("what is pinned: %d, X-Cache %q, %v", a.status, a.header.Get("X-Cache"), a.err)
	}
}

// TestBlockedOnItsWay has an operator keep a layer out while spans of it come: none
// of them is kept.
func TestBlockedOnItsWay(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	s.do(t, http.MethodHead, path)
	sp := table.Span(3)
	began, blocked := make(chan struct{}), make(chan struct{})
	begin, end := sync.OnceFunc(func() { close(began) }), sync.OnceFunc(func() { close(blocked) })
	defer end()
	g.serve = func(http.ResponseWriter, *http.Request, []byte) bool {
		begin()
		<-blocked
		return false
	}
	var client sync.WaitGroup
	client.Go(func() { s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1)) })
	<-began
	if err := s.store.Block(t.Context(), storage.BlockRow{Digest: d}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.PurgeBlob(t.Context(), d, false); err != nil {
		t.Fatal(err)
	}
	end()
	client.Wait()
	if _, err := s.store.Stat(t.Context(), sp.Digest); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of a span: %v", err)
	}
	if a := s.do(t, http.MethodGet, path, "Range", "bytes=1000-1999"); a.status != http.StatusForbidden {
		t.Errorf("afterwards: %d", a.status)
	}
}

// TestBlockedWhileProven has an operator keep a blob out, and purge it, while the
// upstream is asked whether a client's repository has it: that client gets nothing.
func TestBlockedWhileProven(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	layer := random(1<<20, 8)
	d := g.addBlob("a", layer)
	g.addBlob("b", layer)
	s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String())
	g.serve = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method == http.MethodHead {
			if err := s.store.Block(t.Context(), storage.BlockRow{Digest: d}); err != nil {
				t.Error(err)
			}
			if _, err := s.store.PurgeBlob(t.Context(), d, false); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	if a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+d.String()); a.status != http.StatusForbidden {
		t.Errorf("%d, %d bytes, want 403", a.status, len(a.body))
	}
	if _, err := s.store.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat: %v", err)
	}
}
