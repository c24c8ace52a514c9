package proxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestManifestComesAsBlob pushes a manifest's bytes as a blob, too: it stays a
// manifest, whoever deletes or collects.
func TestManifestComesAsBlob(t *testing.T) {
	s := newHost(t, Hosting{Immutable: func(_, tag string) bool { return tag == "v1" }}, nil)
	layer := random(1000, 1)
	m := s.pushImage(t, "local/app", "v1", layer)
	s.pushBlob(t, "local/app", []byte(image(oci.EmptyDigest, digest.FromBytes(layer), len(layer))))
	wantCode(t, "delete the manifest of an immutable tag", s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+m.String()), http.StatusForbidden, "DENIED")
	a := s.do(t, http.MethodDelete, "/v2/local/app/blobs/"+m.String())
	wantCode(t, "delete it as a blob", a, http.StatusMethodNotAllowed, "UNSUPPORTED")
	if a.header.Get("Allow") == "" {
		t.Error("no Allow")
	}
	c := storage.NewCollector(storage.CollectOptions{Store: s.store, Hosted: []string{"local"}, Grace: time.Nanosecond})
	if _, err := c.Collect(t.Context(), false, func(x storage.Collected) { t.Errorf("collected: %+v", x) }); err != nil {
		t.Error(err)
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/manifests/v1"); a.status != http.StatusOK {
		t.Errorf("v1: %d %s", a.status, a.body)
	}
}
