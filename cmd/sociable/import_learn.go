package main

import (
	"encoding/json"
	"io"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// maxPrefetchBytes is more than a prefetch artifact has that is of use.
const maxPrefetchBytes = 1 << 20

// madeParts are small things of a bundle that were made where it comes from, and
// tell how its images start: SOCI indexes and prefetch artifacts.
type madeParts struct {
	indexes map[digest.Digest]*oci.Manifest
	runs    map[digest.Digest][][2]int
}

// add looks at something that was made, whose digest was checked when body has
// ended. What is of no use is ignored.
func (m *madeParts) add(b bundle.Blob, body io.Reader) error {
	if b.Size > maxPrefetchBytes {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	p, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if b.Manifest {
		if index, err := oci.ParseManifest(p, v1.MediaTypeImageManifest); err == nil {
			m.indexes[b.Digest] = index
		}
		return nil
	}
	var artifact struct {
		Version string `json:"version"`
		Spans   []struct {
			First int `json:"start_span"`
			Last  int `json:"end_span"`
		} `json:"prefetch_spans"`
	}
	if json.Unmarshal(p, &artifact) == nil && artifact.Version == "1.0" {
		for _, s := range artifact.Spans {
			m.runs[b.Digest] = append(m.runs[b.Digest], [2]int{s.First, s.Last})
		}
	}
	return nil
}

// starts is what is known of how an image of the bundle starts.
func (m *madeParts) starts(img *bundle.Image) (out []web.ImportedStarts) {
	for _, i := range img.Indexes {
		index := m.indexes[i.Digest]
		if index == nil {
			continue
		}
		x := web.ImportedStarts{Manifest: i.Subject}
		for j := range index.Layers {
			d := &index.Layers[j]
			runs := m.runs[d.Digest]
			if d.MediaType != oci.MediaTypeSOCIPrefetch || len(runs) == 0 {
				continue
			}
			layer := digest.Digest(d.Annotations[annotationLayerDigest])
			if size := spanSizeOf(index, layer); size > 0 {
				x.Layers = append(x.Layers, web.ImportedRuns{Layer: layer, SpanSize: size, Runs: runs})
			}
		}
		if len(x.Layers) > 0 {
			out = append(out, x)
		}
	}
	return out
}

// Annotations of what a SOCI index names.
const (
	annotationLayerDigest = "com.amazon.soci.image-layer-digest"
	annotationSpanSize    = "com.amazon.soci.span-size"
)

// spanSizeOf is what the zTOC of a layer says of itself in an index; 0: nothing.
func spanSizeOf(index *oci.Manifest, layer digest.Digest) int64 {
	i := slices.IndexFunc(index.Layers, func(d v1.Descriptor) bool {
		return d.Annotations[annotationLayerDigest] == layer.String() && d.Annotations[annotationSpanSize] != ""
	})
	if i < 0 {
		return 0
	}
	n, err := strconv.ParseInt(index.Layers[i].Annotations[annotationSpanSize], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
