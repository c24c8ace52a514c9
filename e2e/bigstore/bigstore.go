// Package bigstore makes the rows of a store that has seen years of use, to
// measure with what depends on how much there is. There are no bytes behind the
// rows: what is made answers questions about images, and no pull.
//
//	go run ./bigstore/make -data DIR [-images 100000] [-spans 1000000]
package bigstore

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// Scale is how much there is. Every image has one large layer, which is indexed
// and of which Spans ÷ Images spans are here, and two small ones; a third of the
// images was started lazily.
type Scale struct{ Images, Spans int }

// Years are 100,000 images and 1,000,000 spans.
var Years = Scale{Images: 100_000, Spans: 1_000_000}

const (
	batch     = 1000 // images a transaction
	spanBytes = 2 << 20
	small     = 3 << 20
)

// Generate makes DIR/meta.db; there must be none.
func Generate(ctx context.Context, dir string, s Scale, progress func(images int)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, "meta.db")
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	}
	db, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is lost that can't be made again
	for from := 0; from < s.Images; from += batch {
		err := db.Update(ctx, func(tx storage.Tx) error {
			for i := from; i < min(s.Images, from+batch); i++ {
				if err := s.image(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("generate image %d: %w", from, err)
		}
		progress(min(s.Images, from+batch))
	}
	return nil
}

func digestOf(n ...int) digest.Digest {
	var b []byte
	for _, i := range n {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return digest.FromBytes(b)
}

// repo spreads images over teams and upstreams.
func repo(i int) oci.Repo {
	upstreams := []string{"docker.io", "ghcr.io", "quay.io", "registry.k8s.io"}
	return oci.Repo{Upstream: upstreams[i%4], Name: fmt.Sprintf("team-%02d/service-%04d", i%61, i/40)}
}

func (s Scale) image(tx storage.Tx, i int) error {
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * 10 * time.Minute)
	n := s.Spans / s.Images
	root, layer, zTOC, index := digestOf(1, i), digestOf(2, i), digestOf(3, i), digestOf(4, i)
	layers := []v1.Descriptor{
		{MediaType: v1.MediaTypeImageLayerGzip, Digest: layer, Size: int64(n) * spanBytes},
		{MediaType: v1.MediaTypeImageLayerGzip, Digest: digestOf(5, i%500), Size: small}, // shared, as bases are
		{MediaType: v1.MediaTypeImageLayerGzip, Digest: digestOf(6, i), Size: small},
	}
	blobs := []storage.BlobRow{
		{Digest: root, Size: 2000, Kind: storage.KindManifest}, {Digest: index, Size: 900, Kind: storage.KindIndex, Of: root},
		{Digest: zTOC, Size: 1 << 20, Kind: storage.KindZTOC, Of: layer}, {Digest: layers[1].Digest, Size: small, Kind: storage.KindBlob},
		{Digest: layers[2].Digest, Size: small, Kind: storage.KindBlob},
	}
	for k := range n {
		blobs = append(blobs, storage.BlobRow{Digest: digestOf(7, i, k), Size: spanBytes, Kind: storage.KindSpan, Of: layer})
	}
	for k := range blobs {
		blobs[k].Created, blobs[k].Accessed = at, at.Add(time.Duration(k)*time.Hour)
		if err := tx.PutBlob(blobs[k]); err != nil {
			return err
		}
	}
	if err := s.layer(tx, i, n, layer, zTOC, at); err != nil {
		return err
	}
	skip := "too-small"
	row := storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: root, Size: 2000}, Repos: []oci.Repo{repo(i)},
		Platform: []string{"linux/amd64", "linux/arm64"}[i%2], Index: index, IndexSize: 900, Published: at,
		Layers: []storage.ImageLayer{{Descriptor: layers[0], SpanSize: 4 << 20}, {Descriptor: layers[1], Skip: skip}, {Descriptor: layers[2], Skip: skip}},
	}
	for _, err := range []error{
		tx.PutImage(row), tx.PutRight(repo(i), root), tx.PutRight(repo(i), layer),
		tx.PutManifest(storage.ManifestRow{Digest: root, Size: 2000, Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: layers}}),
		tx.PutTag(storage.TagRow{Repo: repo(i), Tag: fmt.Sprintf("v1.%d", i%40), Digest: root, Checked: at}),
		tx.PutConversion(s.converted(row, i, at)),
		tx.PutPulls(storage.PullRow{Manifest: root, Pulls: int64(i%997 + 1), Last: at.Add(time.Hour)}),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// converted is the SOCI v2 form of an image, made long ago: so none is to be made,
// which could not be done without bytes.
func (s Scale) converted(img storage.ImageRow, i int, at time.Time) storage.ConversionRow {
	index := v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digestOf(8, i), Size: 1200}
	return storage.ConversionRow{
		Repo: repo(i), Source: img.Manifest, Platforms: []string{img.Platform}, Index: index,
		Made: []storage.MadeBlob{{Digest: index.Digest, Of: img.Manifest.Digest}}, Created: at,
	}
}

func (s Scale) layer(tx storage.Tx, i, n int, layer, zTOC digest.Digest, at time.Time) error {
	row := storage.LayerRow{
		Digest: layer, SpanSize: 4 << 20, Size: int64(n) * spanBytes, State: storage.LayerIndexed, ZTOC: zTOC, ZTOCSize: 1 << 20,
		Spans: n, Head: make([]byte, 512), Built: at, BuildTime: time.Second,
	}
	if err := tx.PutLayer(row); err != nil {
		return err
	}
	if err := tx.PutSpans(layer, row.SpanSize, table(i, n)); err != nil || i%3 > 0 {
		return err
	}
	heat := storage.HeatRow{Digest: layer, SpanSize: row.SpanSize, Spans: make([]storage.SpanHeat, n)}
	heat.Spans[i%n] = storage.SpanHeat{Reads: uint32(i%50 + 1), Last: at}
	return tx.PutHeat(heat)
}

// table is a span table as ztoc.SpanTable marshals it: spans of one size.
func table(i, n int) []byte {
	p := []byte{1}
	p = binary.AppendUvarint(p, uint64(n)*spanBytes)
	p = binary.AppendUvarint(p, uint64(n))
	for k := range n {
		step := uint64(spanBytes) << 1
		if k == 0 {
			step = 0
		}
		p = binary.AppendUvarint(p, step)
	}
	for k := range n {
		raw, err := hex.DecodeString(digestOf(7, i, k).Encoded())
		if err != nil {
			panic(err) // it was made here
		}
		p = append(p, raw...)
	}
	return p
}
