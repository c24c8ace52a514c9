package proxy

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// TestCameMeanwhile has a blob come whole after a second repository's client, or a
// pull of our own, was found to miss it, and before that joins or begins a transfer:
// upstream sends it once.
func TestCameMeanwhile(t *testing.T) {
	layer := random(200<<10, 31)
	for name, ask := range map[string]func(*testing.T, *server, v1.Descriptor){
		"whole": func(t *testing.T, s *server, d v1.Descriptor) {
			if a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+d.Digest.String()); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		},
		"range": func(t *testing.T, s *server, d v1.Descriptor) {
			a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+d.Digest.String(), "Range", "bytes=100-199")
			if a.status != http.StatusPartialContent || a.err != nil || !bytes.Equal(a.body, layer[100:200]) {
				t.Errorf("status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		},
		"our own": func(t *testing.T, s *server, d v1.Descriptor) {
			if err := s.p.FetchBlob(t.Context(), oci.Repo{Upstream: "up", Name: "b"}, d); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
			d := v1.Descriptor{Digest: g.addBlob("a", layer), Size: int64(len(layer))}
			g.addBlob("b", layer)
			began, looked := make(chan struct{}), make(chan struct{})
			g.serve = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
				switch {
				case strings.Contains(r.URL.Path, "/a/"): // on its way, until the other has looked
					close(began)
					<-looked
				case r.Method == http.MethodHead: // the other's question: not answered before the blob is here
					close(looked)
					for filling := true; filling; {
						select {
						case <-time.After(time.Millisecond):
						case <-r.Context().Done():
							return true
						}
						_, filling = s.p.filling(s.p.routes().def, d.Digest)
					}
				}
				return false
			}
			var work sync.WaitGroup
			defer work.Wait()
			work.Go(func() { s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.Digest.String()) })
			<-began
			ask(t, s, d)
			asked := slices.DeleteFunc(g.take(), func(a string) bool { return strings.HasPrefix(a, "HEAD") })
			if diff := cmp.Diff([]string{"GET blobs"}, asked); diff != "" {
				t.Errorf("upstream was asked for its bytes (-want +got):\n%s", diff)
			}
		})
	}
}

// patientClient is a client of g that takes a test's slow answer for no fault.
func patientClient(t *testing.T, g *registry) *upstream.Client {
	t.Helper()
	u, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := upstream.New(upstream.Options{Name: "up", URL: u, StallTimeout: time.Minute, HeaderTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
