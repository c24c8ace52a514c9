package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// annotationSkipped, in index.json, says why layers of the image are not in its
// SOCI index: a JSON object from digest to reason.
const annotationSkipped = "io.github.sociable.skipped"

// made is when a blob came into the layout.
func (l layout) made(d digest.Digest) time.Time {
	fi, err := os.Stat(l.blob(d))
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime().UTC().Truncate(time.Second)
}

// foundIndex is a SOCI index in a layout.
type foundIndex struct {
	v1.Descriptor
	manifest *oci.Manifest
	subject  digest.Digest // the image's manifest
}

// layoutIndexes reads what the layout has of SOCI indexes, v1 and v2, all of them
// or those of the image that its tag means.
func (l layout) layoutIndexes() ([]IndexInfo, error) {
	idx, err := l.index()
	if err != nil {
		return nil, err
	}
	w := layoutWalk{layout: l, named: map[digest.Digest]v1.Descriptor{}}
	if err := w.walk(idx.Manifests, 0); err != nil {
		return nil, err
	}
	wanted, found := w.named, w.found
	if l.tag != "" {
		image, err := l.image()
		if err != nil {
			return nil, err
		}
		w = layoutWalk{layout: l, named: map[digest.Digest]v1.Descriptor{}}
		if err := w.walk([]v1.Descriptor{image}, 0); err != nil {
			return nil, err
		}
		wanted = w.named
	}
	list := []IndexInfo{}
	for _, f := range found {
		image, ok := wanted[f.subject]
		if !ok && l.tag != "" {
			continue
		}
		x := IndexInfo{Repository: l.dir, Manifest: f.subject, Index: f.Digest, Size: f.Size, Created: l.made(f.Digest)}
		if f.manifest.ArtifactType == oci.MediaTypeSOCIIndexV2 {
			x.Version = "v2"
		}
		for _, p := range []*v1.Platform{image.Platform, f.Platform, l.platformIn(f.subject)} {
			if p != nil && x.Platform == "" {
				x.Platform = oci.PlatformName(*p)
			}
		}
		if x.Layers, err = l.indexedLayers(f); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

// platformIn is that of the image whose manifest is d, nil where it is not known.
func (l layout) platformIn(d digest.Digest) *v1.Platform {
	m, err := l.manifest(v1.Descriptor{Digest: d})
	if err != nil {
		return nil
	}
	return l.platformOf(m)
}

// platformOf is what the config of an image says, nil where it is not known.
func (l layout) platformOf(m *oci.Manifest) *v1.Platform {
	if m.Config == nil || m.Config.Digest.Validate() != nil {
		return nil
	}
	f, err := os.Open(l.blob(m.Config.Digest))
	if err != nil {
		return nil
	}
	defer f.Close()
	const most = 4 << 20
	var p v1.Platform
	if err := json.NewDecoder(io.LimitReader(f, most)).Decode(&p); err != nil || p.OS == "" || p.Architecture == "" || !oci.RealPlatform(&p) {
		return nil
	}
	return &p
}

// layoutWalk goes through manifests, and those below the image indexes among
// them. What is not in the layout, or is no manifest, is passed over.
type layoutWalk struct {
	layout
	named map[digest.Digest]v1.Descriptor // all that was met
	found []foundIndex                    // the SOCI indexes
}

func (w *layoutWalk) walk(ds []v1.Descriptor, depth int) error {
	const deepest = 4
	for _, d := range ds {
		if _, ok := w.named[d.Digest]; ok {
			continue
		}
		w.named[d.Digest] = d
		m, err := w.manifest(d)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, oci.ErrManifest) {
			continue
		}
		if err != nil {
			return err
		}
		if m.IsIndex() && depth < deepest {
			if err = w.walk(m.Manifests, depth+1); err != nil {
				return err
			}
		}
		f := foundIndex{Descriptor: d, manifest: m, subject: digest.Digest(d.Annotations["com.amazon.soci.image-manifest-digest"])}
		if m.Subject != nil {
			f.subject = m.Subject.Digest
		}
		if t := m.ArtifactType; (t == oci.MediaTypeSOCIIndexV1 || t == oci.MediaTypeSOCIIndexV2) && f.subject != "" {
			w.found = append(w.found, f)
		}
	}
	return nil
}

// indexedLayers are the layers of the image that a SOCI index is of. Where the
// layout has not the image, they are those that are known from the index.
func (l layout) indexedLayers(f foundIndex) ([]LayerInfo, error) {
	zTOCs := map[digest.Digest]LayerInfo{}
	layers := []LayerInfo{}
	for _, d := range f.manifest.Layers {
		if d.MediaType == oci.MediaTypeSOCIPrefetch {
			continue
		}
		info, err := l.indexedLayer(d)
		if err != nil {
			return nil, err
		}
		zTOCs[info.Digest], layers = info, append(layers, info)
	}
	skipped := map[digest.Digest]string{}
	if why := f.Annotations[annotationSkipped]; why != "" {
		if err := json.Unmarshal([]byte(why), &skipped); err != nil {
			return nil, fmt.Errorf("read the index of layout %s: %s: %w", l.dir, annotationSkipped, err)
		}
	}
	image, err := l.manifest(v1.Descriptor{Digest: f.subject})
	if errors.Is(err, fs.ErrNotExist) {
		return layers, nil
	}
	if err != nil {
		return nil, err
	}
	layers = []LayerInfo{}
	for _, d := range image.Layers {
		if d.MediaType == oci.MediaTypeSOCIPrefetch {
			continue
		}
		info, ok := zTOCs[d.Digest]
		if !ok {
			info = LayerInfo{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, State: storage.LayerSkipped, Reason: skipped[d.Digest]}
		}
		layers = append(layers, info)
	}
	return layers, nil
}

// indexedLayer is the layer that an entry of a SOCI index is about.
func (l layout) indexedLayer(d v1.Descriptor) (LayerInfo, error) {
	info := LayerInfo{
		Digest:    digest.Digest(d.Annotations["com.amazon.soci.image-layer-digest"]),
		MediaType: d.Annotations["com.amazon.soci.image-layer-mediaType"],
		State:     storage.LayerIndexed, ZTOC: d.Digest, ZTOCSize: d.Size,
	}
	if _, err := oci.ParseDigest(d.Digest.String()); err != nil {
		return info, err
	}
	f, size, err := openStored(StoredZTOC{Digest: d.Digest, Size: d.Size}, place{layout: &l})
	if err != nil {
		return info, err
	}
	defer f.Close()
	z, err := ztoc.Parse(f, size)
	if err != nil {
		return info, fmt.Errorf("zTOC %s: %w", d.Digest, err)
	}
	info.Size, info.Spans = z.LayerSize, z.NumSpans
	return info, nil
}
