package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// accessFunc is an Access of one function.
type accessFunc func(r *http.Request, repo oci.Repo, action oci.Action) error

func (f accessFunc) May(r *http.Request, repo oci.Repo, action oci.Action) error {
	return f(r, repo, action)
}

// TestAccessIsAskedFirst holds that a refusal is the answer to every way of
// reading, whatever is cached, and that nobody is asked upstream for it.
func TestAccessIsAskedFirst(t *testing.T) {
	g := newRegistry(t)
	allow := true
	s := newServer(t, g, func(o *Options) {
		o.Access = accessFunc(func(_ *http.Request, repo oci.Repo, action oci.Action) error {
			if want := (oci.Repo{Upstream: "up", Name: "a"}); repo != want || action != oci.ActionPull {
				t.Errorf("asked for %s in %s", action, repo)
			}
			if allow {
				return nil
			}
			return oci.NewError(errcode.ErrorCodeDenied, "not you")
		})
	})
	layer := random(100, 1)
	d := g.addBlob("a", layer)
	m := g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(layer)))
	paths := []string{"manifests/v1", "manifests/" + m.String(), "blobs/" + d.String(), "tags/list", "referrers/" + m.String()}
	for _, path := range paths[:3] {
		if a := s.do(t, http.MethodGet, "/v2/up/a/"+path); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	g.take()
	allow = false
	for _, path := range paths {
		if a := s.do(t, http.MethodGet, "/v2/up/a/"+path); a.status != http.StatusForbidden || !strings.Contains(string(a.body), `"DENIED"`) {
			t.Errorf("%s: %d %s, want 403 DENIED", path, a.status, a.body)
		}
	}
	if got := g.take(); len(got) > 0 {
		t.Errorf("upstream was asked: %v", got)
	}
}
