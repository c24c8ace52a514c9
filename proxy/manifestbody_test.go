package proxy

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestManifestIsFetchedAgain damages a manifest that is here: the next client has it
// from upstream at once, by its digest and by a tag, and so has a pull.
func TestManifestIsFetchedAgain(t *testing.T) {
	file := func(dir string, d digest.Digest) string {
		return filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	}
	for name, damage := range map[string]func(t *testing.T, s *server, dir string, d digest.Digest){
		"gone": func(t *testing.T, _ *server, dir string, d digest.Digest) {
			if err := os.Remove(file(dir, d)); err != nil {
				t.Fatal(err)
			}
		},
		"short": func(t *testing.T, _ *server, dir string, d digest.Digest) {
			if err := errors.Join(os.Remove(file(dir, d)), os.WriteFile(file(dir, d), []byte("{"), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"other bytes": func(t *testing.T, _ *server, dir string, d digest.Digest) { flipByte(t, dir, d) },
		"found by a check": func(t *testing.T, s *server, dir string, d digest.Digest) {
			flipByte(t, dir, d)
			if report, err := s.store.Check(t.Context(), storage.CheckOptions{}); err != nil || report.Problems != 1 {
				t.Fatalf("the check: %+v, %v", report, err)
			}
		},
	} {
		for _, way := range []string{"digest", "tag", "pull"} {
			t.Run(name+", "+way, func(t *testing.T) {
				dir, g := t.TempDir(), newRegistry(t)
				s := newServerAt(t, dir, g, nil, nil)
				layer := g.addBlob("a", random(1000, 1))
				g.addBlob("a", oci.EmptyJSON)
				body := image(oci.EmptyDigest, layer, 1000)
				d := g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
				s.do(t, http.MethodGet, "/v2/up/a/manifests/v1")
				waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
				damage(t, s, dir, d)
				s.p.bodies.clear() // as after a restart
				g.take()
				if way == "pull" {
					if _, err := s.p.Pull(t.Context(), oci.Repo{Upstream: "up", Name: "a"}, oci.Reference{Digest: d}, oci.PullOptions{}); err != nil {
						t.Errorf("pull: %v", err)
					}
				} else {
					ref := map[string]string{"digest": d.String(), "tag": "v1"}[way]
					a := s.do(t, http.MethodGet, "/v2/up/a/manifests/"+ref)
					if a.status != http.StatusOK || string(a.body) != body || a.header.Get("X-Cache") == "hit" {
						t.Errorf("%d, %d bytes, %s", a.status, len(a.body), a.header.Get("X-Cache"))
					}
				}
				if n := len(g.take()); n == 0 {
					t.Error("upstream was not asked")
				}
				waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
				s.p.bodies.clear()
				if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/"+d.String()); string(a.body) != body || len(g.take()) != 0 {
					t.Errorf("afterwards: %d, X-Cache %s", a.status, a.header.Get("X-Cache"))
				}
			})
		}
	}
}
