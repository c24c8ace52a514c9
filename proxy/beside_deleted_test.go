package proxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// remove takes a tag and the manifest that it leads to out of a repository.
func (g *registry) remove(repo, tag string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.manifests, repo+"@"+digest.FromBytes(g.manifests[repo+"@"+tag]).String())
	delete(g.manifests, repo+"@"+tag)
}

// TestBesideDeleted: of an image that was deleted the converted form, which was
// pushed to the upstream, is there for as long as the upstream has its tag, and no
// longer.
func TestBesideDeleted(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, pulled := range []bool{true, false} { // the converted form, while the image was there
			t.Run(map[bool]string{true: "pulled ", false: "not pulled "}[pulled]+method, func(t *testing.T) {
				g := newRegistry(t)
				c := &converter{}
				s := newServer(t, g, func(o *Options) { o.Converter = c })
				at := time.Now()
				s.p.now = func() time.Time { return at }
				one, made := image(oci.EmptyDigest, digest.FromString("1"), 1), image(oci.EmptyDigest, digest.FromString("made"), 2)
				g.addManifest("a", "v1", v1.MediaTypeImageManifest, one)
				s.do(t, http.MethodGet, tagsPath+"v1")
				d := s.convert(t, "v1", one, made)
				g.addManifest("a", "v1-soci", v1.MediaTypeImageManifest, made)
				if pulled {
					s.wantTag(t, "v1-soci", d)
				}
				g.remove("a", "v1")
				at = at.Add(2 * time.Hour)
				get := func(what string, want int) {
					t.Helper()
					a := s.do(t, method, tagsPath+"v1-soci")
					if a.status != want || want == http.StatusOK && a.header.Get("Docker-Content-Digest") != d.String() {
						t.Errorf("%s: %d %s %s, want %d", what, a.status, a.header.Get("Docker-Content-Digest"), a.body, want)
					}
				}
				if a := s.do(t, method, tagsPath+"v1"); a.status != http.StatusNotFound {
					t.Errorf("the image itself: %d", a.status)
				}
				get("the upstream has it", http.StatusOK)
				get("again", http.StatusOK)
				c.withdrawn = true
				get("withdrawn", http.StatusNotFound)
				c.withdrawn = false
				g.remove("a", "v1-soci")
				get("deleted there, too", http.StatusNotFound)
			})
		}
	}
}
