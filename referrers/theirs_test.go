package referrers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestTheirsAlone lists, where a repository does not have the image, what its upstream
// lists at that moment, and nothing that was made here of it for others.
func TestTheirsAlone(t *testing.T) {
	ours, theirSOCI, sig, other := entry(9, oci.MediaTypeSOCIIndexV1), entry(7, oci.MediaTypeSOCIIndexV1), entry(1, signature), entry(2, signature)
	list := []v1.Descriptor{sig, theirSOCI}
	s := New(Options{
		Store:    newStore(t, ours, other),
		Upstream: func(context.Context, oci.Repo, digest.Digest) ([]v1.Descriptor, error) { return list, nil },
		Hold:     HoldOptions{Coming: &soon{in: time.Second, sure: true}},
	})
	if got := decode(t, get(t, s, http.MethodGet, target)).Manifests; len(got) != 3 {
		t.Fatalf("where the image is: %v", got)
	}
	for _, c := range []struct {
		list, want []v1.Descriptor
		filter     string
	}{
		{list: list, want: []v1.Descriptor{theirSOCI, sig}},
		{list: list[:1], want: list[:1]},
		{want: []v1.Descriptor{}},
		{want: []v1.Descriptor{}, filter: oci.MediaTypeSOCIIndexV1},
	} {
		list = c.list
		url := target
		if c.filter != "" {
			url = filtered(c.filter)
		}
		w := httptest.NewRecorder()
		if err := s.ServeTheirs(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil), repo, subject); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, decode(t, w.Result()).Manifests); diff != "" || w.Code != http.StatusOK {
			t.Errorf("%d (-want +got):\n%s", w.Code, diff)
		}
	}
}
