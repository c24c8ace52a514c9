package proxy

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/sociable/sociable/storage"
)

// TestFullStorePassesThrough holds that a blob which cannot be kept is served
// all the same, verified all the same.
func TestFullStorePassesThrough(t *testing.T) {
	g := newRegistry(t)
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = 1 << 20 })
	layer := random(3<<20, 9)
	d := g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	for range 2 {
		if a := s.do(t, "GET", path); a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
			t.Fatalf("status %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	}
	a := s.do(t, "GET", path, "Range", "bytes=100-2999999")
	if a.status != 206 || a.err != nil || !bytes.Equal(a.body, layer[100:3_000_000]) {
		t.Errorf("range: status %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	wrong := bytes.Clone(layer)
	wrong[5] ^= 1
	g.mu.Lock()
	g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wrong))
		return true
	}
	g.mu.Unlock()
	if a := s.do(t, "GET", path); a.err == nil && len(a.body) == len(wrong) {
		t.Error("a complete wrong body")
	}
}

// TestProbeOfWhatDoesNotFit reads two bytes, which are kept, of a blob that has
// no room as a whole: it is passed on all the same.
func TestProbeOfWhatDoesNotFit(t *testing.T) {
	g := newRegistry(t)
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = 1 << 20 })
	layer := random(3<<20, 13)
	d := g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	if a := s.do(t, "GET", path, "Range", "bytes=0-1"); a.status != 206 || !bytes.Equal(a.body, layer[:2]) {
		t.Fatalf("probe: status %d, %q", a.status, a.body)
	}
	for range 2 {
		if a := s.do(t, "GET", path); a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
			t.Errorf("status %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	}
}
