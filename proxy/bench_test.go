package proxy

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// BenchmarkWarm measures answers that are here, over loopback, client included.
func BenchmarkWarm(b *testing.B) {
	g := newRegistry(b)
	s := newServer(b, g, nil)
	layer := random(32<<20, 12)
	d := g.addBlob("a", layer)
	m := g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(layer)))
	blob := "/v2/up/a/blobs/" + d.String()
	fetch(b, s, blob, "")
	fetch(b, s, "/v2/up/a/manifests/v1", "")
	for _, bb := range []struct {
		name, path, rng string
		bytes           int64
	}{
		{"whole", blob, "", 32 << 20},
		{"range 4MiB", blob, "bytes=1000000-5194303", 4 << 20},
		{"range 64KiB", blob, "bytes=1000000-1065535", 64 << 10},
		{"tag", "/v2/up/a/manifests/v1", "", 0},
		{"digest", "/v2/up/a/manifests/" + m.String(), "", 0},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(bb.bytes)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					fetch(b, s, bb.path, bb.rng)
				}
			})
		})
	}
}

func fetch(b *testing.B, s *server, path, rng string) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		b.Fatal(fmt.Errorf("status %d", resp.StatusCode))
	}
}
