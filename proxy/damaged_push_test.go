package proxy

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestDamagedMakesWayForPush pulls an image, has a byte of each of its blobs become
// another, and pushes it: what is pulled from then on is what was pushed. A mount of
// a damaged blob has the client send it.
func TestDamagedMakesWayForPush(t *testing.T) {
	for _, how := range []string{"pushed", "mounted"} {
		t.Run(how, func(t *testing.T) {
			dir, g := t.TempDir(), newRegistry(t)
			s := newServerAt(t, dir, g, func(o *Options) { o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true}) }, nil)
			layer := random(3<<20, 1)
			d := g.addBlob("a", layer)
			g.addBlob("a", oci.EmptyJSON)
			body := image(oci.EmptyDigest, d, len(layer))
			manifest := g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
			for _, path := range []string{"/v2/up/a/manifests/v1", "/v2/up/a/blobs/" + d.String()} {
				if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK {
					t.Fatalf("%s: %d", path, a.status)
				}
			}
			waitFor(t, func() bool { return s.store.Flush(t.Context()) == nil })
			flipByte(t, dir, d)
			if how == "mounted" {
				a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?mount="+d.String()+"&from=up/a", nil)
				if a.status != http.StatusAccepted {
					t.Errorf("mount of what is damaged: %d", a.status)
				}
			}
			s.pushBlob(t, "local/app", layer)
			s.pushBlob(t, "local/app", oci.EmptyJSON)
			if a := s.do(t, http.MethodGet, "/v2/local/app/blobs/"+d.String()); a.status != http.StatusOK || !bytes.Equal(a.body, layer) {
				t.Errorf("what was pushed: %d, %d bytes, or others", a.status, len(a.body))
			}
			flipByte(t, dir, manifest)
			if a := s.putManifest(t, "local/app", "v1", body); a.status != http.StatusCreated {
				t.Fatalf("manifest: %d %s", a.status, a.body)
			}
			s.p.bodies.clear()
			if a := s.do(t, http.MethodGet, "/v2/local/app/manifests/v1"); a.status != http.StatusOK || string(a.body) != body {
				t.Errorf("the manifest that was pushed: %d %s", a.status, a.body)
			}
		})
	}
}

// flipByte has a stored blob hold another byte in its middle.
func flipByte(t *testing.T, dir string, d digest.Digest) {
	t.Helper()
	file := filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
}
