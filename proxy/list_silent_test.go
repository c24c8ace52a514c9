package proxy

import (
	"context"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// stuck does not answer for manifests of one repository.
type stuck struct {
	Registry
	repo string
}

func (s stuck) HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	if repo == s.repo {
		<-ctx.Done()
		return v1.Descriptor{}, context.Cause(ctx)
	}
	return s.Registry.HeadManifest(ctx, repo, ref)
}

// TestListOfSilentUpstream: whether a repository has an image that is known from another
// is asked, for as long as a start can wait.
func TestListOfSilentUpstream(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) {
		o.Referrers = tellsAll{[]byte("with ours")}
		o.Upstreams[0].Registry = stuck{o.Upstreams[0].Registry, "other"}
	})
	body := image(oci.EmptyDigest, digest.FromString("1"), 1)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1"); a.status != http.StatusOK {
		t.Fatal(a.status)
	}
	d := digest.FromString(body).String()
	if a := s.do(t, http.MethodGet, "/v2/up/a/referrers/"+d); a.status != http.StatusOK {
		t.Errorf("where it is: %d %s", a.status, a.body)
	}
	a := s.do(t, http.MethodGet, "/v2/up/other/referrers/"+d)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
		t.Errorf("where nobody knows: %d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
}
