package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// made is when a blob came into the layout.
func (l layout) made(d digest.Digest) time.Time {
	fi, err := os.Stat(l.blob(d))
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime().UTC().Truncate(time.Second)
}

// layoutIndexes reads what index.json says of SOCI indexes.
func (l layout) layoutIndexes() ([]IndexInfo, error) {
	idx, err := l.index()
	if err != nil {
		return nil, err
	}
	list := []IndexInfo{}
	for _, d := range idx.Manifests {
		if d.ArtifactType != oci.MediaTypeSOCIIndexV1 {
			continue
		}
		m, err := l.manifest(d)
		if err != nil {
			return nil, err
		}
		if m.Subject == nil {
			continue
		}
		x := IndexInfo{Repository: l.dir, Manifest: m.Subject.Digest, Index: d.Digest, Size: d.Size, Created: l.made(d.Digest)}
		if x.Layers, err = l.indexedLayers(m); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

// indexedLayers are the layers that a SOCI index has a zTOC of.
func (l layout) indexedLayers(index *oci.Manifest) ([]LayerInfo, error) {
	layers := []LayerInfo{}
	for _, d := range index.Layers {
		info := LayerInfo{
			Digest:    digest.Digest(d.Annotations["com.amazon.soci.image-layer-digest"]),
			MediaType: d.Annotations["com.amazon.soci.image-layer-mediaType"],
			State:     storage.LayerIndexed, ZTOC: d.Digest, ZTOCSize: d.Size,
		}
		p, err := os.ReadFile(l.blob(d.Digest))
		if err != nil {
			return nil, err
		}
		z, err := ztoc.Parse(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			return nil, fmt.Errorf("zTOC %s: %w", d.Digest, err)
		}
		info.Size, info.Spans = z.LayerSize, z.NumSpans
		layers = append(layers, info)
	}
	return layers, nil
}
