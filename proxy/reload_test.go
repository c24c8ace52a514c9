package proxy

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// TestReloadUnderLoad turns a name back and forth between a public upstream and a
// private one while clients ask: nobody is let in to the private one by the rules
// for the public one.
func TestReloadUnderLoad(t *testing.T) {
	public, private := newRegistry(t), newRegistry(t)
	public.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, oci.EmptyDigest, 2))
	private.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, oci.EmptyDigest, 3))
	at := func(g *registry) *Upstream {
		u, err := url.Parse(g.URL)
		if err != nil {
			t.Fatal(err)
		}
		c, err := upstream.New(upstream.Options{Name: "up", URL: u})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return &Upstream{Name: "up", Registry: c} // no tag is kept: the upstream is asked each time
	}
	var closed atomic.Bool
	s := newServer(t, public, func(o *Options) {
		o.Access = accessFunc(func(*http.Request, oci.Repo, oci.Action) error {
			if closed.Load() {
				return oci.NewError(errcode.ErrorCodeDenied, "not you")
			}
			return nil
		})
	})
	states := [2]*Upstream{at(public), at(private)}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 25 {
				s.do(t, http.MethodGet, "/v2/up/a/manifests/v1")
				s.do(t, http.MethodGet, "/v2/_catalog")
			}
		})
	}
	var done atomic.Bool
	var waiting sync.WaitGroup
	waiting.Go(func() { clients.Wait(); done.Store(true) })
	for i := 0; !done.Load(); i++ {
		if err := s.p.SetUpstreams([]*Upstream{states[i%2]}, "up", func() { closed.Store(i%2 == 1) }); err != nil {
			t.Error(err)
		}
	}
	waiting.Wait()
	if got := private.take(); len(got) > 0 {
		t.Errorf("the private upstream was asked %d times", len(got))
	}
	if got := public.take(); len(got) == 0 {
		t.Error("the public upstream was never asked")
	}
}
