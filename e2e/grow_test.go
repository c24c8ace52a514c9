package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestGrowsWholeAndIsIndexed reads a layer by two ranges, which is when the
// policy has the rest fetched: the layer is then here whole, verified, and its
// index is listed, though nobody ever asked for all of it.
func TestGrowsWholeAndIsIndexed(t *testing.T) {
	for _, c := range []struct{ name, policy string }{
		{"after ranges", "SOCIABLE_STORAGE_FILL_AFTER_RANGES=2"},
		{"after percent", "SOCIABLE_STORAGE_FILL_AFTER_PERCENT=1"},
		{"always", "SOCIABLE_STORAGE_FILL_AFTER_RANGES=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startProxyWith(t, suite.Registry.URL(), link.Options{}, []string{c.policy})
			i := image(t, realimage.ImageBig)
			layer := suite.Set.Layers[realimage.LayerBig]
			want, err := os.ReadFile(suite.Set.Path(layer.Digest))
			if err != nil {
				t.Fatal(err)
			}
			p.get(t, manifestPath(i.Repo(), i.Digest.String()))
			for _, other := range []string{realimage.LayerBase, realimage.LayerTar} { // an image is listed when all its layers are settled
				p.get(t, blobPath(i.Repo(), suite.Set.Layers[other].Digest))
			}
			p.link.Forget()
			path := blobPath(i.Repo(), layer.Digest)
			for _, off := range []int64{layer.Size / 3, layer.Size / 2} {
				const n = 4 << 20
				a := p.get(t, path, "Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
				if a.StatusCode != http.StatusPartialContent || a.err != nil || !bytes.Equal(a.body, want[off:off+n]) {
					t.Fatalf("range at %d: %s, %d bytes, %v", off, a.Status, len(a.body), a.err)
				}
			}
			p.awaitIndex(t, i.Repo(), i.Digest, time.Minute)
			if n := p.link.Bytes(); n > layer.Size+layer.Size/50 {
				t.Errorf("%d bytes came from the upstream, the layer has %d", n, layer.Size)
			}
			p.link.Forget()
			if a := p.get(t, path); a.err != nil || digest.FromBytes(a.body) != layer.Digest {
				t.Errorf("whole layer: %s, %d bytes, %v", a.Status, len(a.body), a.err)
			}
			if n := p.link.Bytes(); n != 0 {
				t.Errorf("the whole layer took %d more bytes from the upstream", n)
			}
		})
	}
}
