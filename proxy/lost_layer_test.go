package proxy

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestLostHostedLayer takes the bytes of a pushed and indexed layer away: HEAD says
// what GET would, so that whoever pushes the image again sends the layer.
func TestLostHostedLayer(t *testing.T) {
	dir := t.TempDir()
	host := func(o *Options) { o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true}) }
	s := newServerAt(t, dir, newRegistry(t), host, nil)
	layer := tarGz(t, 20)
	d := s.pushBlob(t, "local/a", layer)
	s.pushBlob(t, "local/a", oci.EmptyJSON)
	index(t, s, layer)
	path := "/v2/local/a/blobs/" + d.String()
	manifest := func() answer { return s.putManifest(t, "local/a", "v1", image(oci.EmptyDigest, d, len(layer))) }
	if a := manifest(); a.status != http.StatusCreated {
		t.Fatalf("manifest: %d %s", a.status, a.body)
	}
	s.stop()
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())); err != nil {
		t.Fatal(err)
	}
	s = newServerAt(t, dir, newRegistry(t), host, nil)
	for _, x := range []struct {
		method string
		header []string
	}{
		{http.MethodHead, nil},
		{http.MethodGet, nil},
		{http.MethodHead, []string{"If-None-Match", etag(d)}},
		{http.MethodGet, []string{"If-None-Match", etag(d)}},
	} {
		if a := s.do(t, x.method, path, x.header...); a.status != http.StatusNotFound {
			t.Errorf("%s %q: %d, want 404", x.method, x.header, a.status)
		}
	}
	mount := "/v2/local/b/blobs/uploads/?mount=" + d.String() + "&from=local/a"
	if a := s.send(t, http.MethodPost, mount, nil); a.status != http.StatusAccepted {
		t.Errorf("mount of what is lost: %d", a.status)
	}
	wantCode(t, "manifest of what is lost", manifest(), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	if got := s.pushBlob(t, "local/a", layer); got != d {
		t.Fatal(got)
	}
	if a := s.do(t, http.MethodHead, path); a.status != http.StatusOK {
		t.Errorf("HEAD of what was pushed again: %d", a.status)
	}
	if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || !bytes.Equal(a.body, layer) {
		t.Errorf("GET of what was pushed again: %d, %d bytes", a.status, len(a.body))
	}
}
