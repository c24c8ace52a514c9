package proxy

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestMadeHereAndCopied: what was made here and was copied at the upstream to a
// repository that has not what it was made of is read there, once the upstream was
// asked; and nowhere else.
func TestMadeHereAndCopied(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		t.Run(method, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.Converter = &converter{} })
			one := image(oci.EmptyDigest, digest.FromString("1"), 1)
			made := image(oci.EmptyDigest, digest.FromString("made"), 2)
			g.addManifest("a", "v1", v1.MediaTypeImageManifest, one)
			s.do(t, http.MethodGet, tagsPath+"v1")
			d := s.convert(t, "v1", one, made)
			s.wantTag(t, "v1-soci", d)
			zTOC, layer := []byte("a zTOC"), digest.FromString("a layer")
			row := storage.BlobRow{Digest: digest.FromBytes(zTOC), Size: int64(len(zTOC)), Kind: storage.KindZTOC, Of: layer}
			if err := s.store.Put(t.Context(), row, zTOC, nil); err != nil {
				t.Fatal(err)
			}
			g.addManifest("copy", "v1", v1.MediaTypeImageManifest, made)
			g.addBlob("copy", zTOC)
			for _, tc := range []struct {
				path   string
				status int
				asked  []string
			}{
				{"copy/manifests/" + d.String(), 200, []string{"HEAD manifests", "HEAD manifests"}},
				{"copy/manifests/" + d.String(), 200, nil}, // proven
				{"copy/manifests/" + digest.FromString(one).String(), 404, []string{"HEAD manifests"}},
				{"other/manifests/" + d.String(), 404, []string{"HEAD manifests", "HEAD manifests"}},
				{"copy/blobs/" + row.Digest.String(), 200, []string{"HEAD blobs", "HEAD blobs"}},
				{"copy/blobs/" + row.Digest.String(), 200, nil},
				{"copy/blobs/" + layer.String(), 404, []string{method + " blobs"}},
				{"other/blobs/" + row.Digest.String(), 404, []string{"HEAD blobs", "HEAD blobs"}},
			} {
				g.take()
				a := s.do(t, method, "/v2/up/"+tc.path)
				if a.status != tc.status {
					t.Errorf("%s: %d %s, want %d", tc.path, a.status, a.body, tc.status)
				}
				if tc.status == 200 && method == http.MethodGet && string(a.body) != made && string(a.body) != string(zTOC) {
					t.Errorf("%s: %s", tc.path, a.body)
				}
				if diff := cmp.Diff(tc.asked, g.take()); diff != "" {
					t.Errorf("%s: the upstream was asked (-want +got):\n%s", tc.path, diff)
				}
			}
		})
	}
}
