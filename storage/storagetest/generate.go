package storagetest

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Scale is how much a generated store holds.
type Scale struct {
	Images         int // each of LayersPerImage blobs, the first of them indexed
	LayersPerImage int
	SpansPerLayer  int // stored, of the indexed layer
}

// Large is a store of 100,000 blobs and 1,000,000 spans.
var Large = Scale{Images: 10_000, LayersPerImage: 8, SpansPerLayer: 100}

// Blobs is how many there are: manifests, layers, zTOCs and spans.
func (s Scale) Blobs() int { return s.Images * (2 + s.LayersPerImage + s.SpansPerLayer) }

// Generate fills m with the rows of a store, without its bytes: to open it, to
// look into it and to choose what to evict takes no more.
func Generate(t testing.TB, m storage.Meta, s Scale) {
	t.Helper()
	const batch = 100 // images a transaction
	for from := 0; from < s.Images; from += batch {
		err := m.Update(t.Context(), func(tx storage.Tx) error {
			for i := from; i < min(s.Images, from+batch); i++ {
				if err := s.image(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("generate a store: %v", err)
		}
	}
}

// digestOf makes up the digest of thing number n.
func digestOf(n ...int) digest.Digest {
	var b []byte
	for _, i := range n {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return digest.FromBytes(b)
}

func (s Scale) image(tx storage.Tx, i int) error {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Minute)
	repo := oci.Repo{Upstream: "docker.io", Name: fmt.Sprintf("library/image%d", i)}
	root, layer, zTOC := digestOf(i), digestOf(i, 0), digestOf(i, 1, 0, 0)
	blobs := []storage.BlobRow{
		{Digest: root, Size: 2000, Kind: storage.KindManifest}, {Digest: zTOC, Size: 1 << 20, Kind: storage.KindZTOC, Of: layer},
	}
	m := oci.Manifest{MediaType: v1.MediaTypeImageManifest}
	for j := range s.LayersPerImage {
		d := digestOf(i, j)
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d, Size: 20 << 20})
		blobs = append(blobs, storage.BlobRow{Digest: d, Size: 20 << 20, Kind: storage.KindBlob})
	}
	for j := range s.SpansPerLayer {
		blobs = append(blobs, storage.BlobRow{Digest: digestOf(i, 0, j), Size: 1 << 20, Kind: storage.KindSpan, Of: layer})
	}
	for j := range blobs {
		row := &blobs[j]
		row.Created, row.Accessed = at, at.Add(time.Duration(j%3)*time.Hour)
		if err := tx.PutBlob(*row); err != nil {
			return err
		}
		if row.Kind == storage.KindSpan {
			continue
		}
		if err := tx.PutRight(repo, row.Digest); err != nil {
			return err
		}
	}
	if err := tx.PutManifest(storage.ManifestRow{Digest: root, Size: 2000, Manifest: m}); err != nil {
		return err
	}
	if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: "latest", Digest: root, Checked: at}); err != nil {
		return err
	}
	if err := tx.PutLayer(storage.LayerRow{
		Digest: layer, SpanSize: 4 << 20, Size: 20 << 20, State: storage.LayerIndexed, ZTOC: zTOC, ZTOCSize: 1 << 20,
		Spans: s.SpansPerLayer, Head: make([]byte, 512), Built: at,
	}); err != nil {
		return err
	}
	return tx.PutImage(storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: root, Size: 2000}, Repos: []oci.Repo{repo},
		Layers: []storage.ImageLayer{{Descriptor: m.Layers[0], SpanSize: 4 << 20}},
	})
}
