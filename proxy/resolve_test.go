package proxy

import (
	"net/http"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestResolveTagAsks: where a tag leads is asked for, however lately a client was
// told, and so it is for a pull that wants that.
func TestResolveTagAsks(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil) // its tags are believed for an hour
	config := g.addBlob("a/app", []byte(`{}`))
	layer := g.addBlob("a/app", random(1000, 1))
	body := image(config, layer, 1000)
	first := g.addManifest("a/app", "1", v1.MediaTypeImageManifest, body)
	s.do(t, http.MethodGet, "/v2/up/a/app/manifests/1")
	second := g.addManifest("a/app", "1", v1.MediaTypeImageManifest, body+" ")
	if got, err := s.p.Pull(t.Context(), app, tag1, oci.PullOptions{}); err != nil || got.Root.Digest != first {
		t.Errorf("pulled %s, %v, want what is known, %s", got.Root.Digest, err, first)
	}
	if got, err := s.p.Pull(t.Context(), app, tag1, oci.PullOptions{Fresh: true}); err != nil || got.Root.Digest != second {
		t.Errorf("pulled %s, %v, want %s", got.Root.Digest, err, second)
	}
	third := g.addManifest("a/app", "1", v1.MediaTypeImageManifest, body+"  ")
	if d, err := s.p.ResolveTag(t.Context(), app, "1"); err != nil || d != third {
		t.Errorf("resolved to %s, %v, want %s", d, err, third)
	}
	if asked := g.take(); !strings.HasPrefix(asked[len(asked)-1], "GET") {
		t.Errorf("asked for %v", asked)
	}
}
