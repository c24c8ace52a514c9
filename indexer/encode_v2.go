package indexer

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Annotations that tie a SOCI v2 index to its image manifest, and back.
const (
	annotationIndexDigest   = "com.amazon.soci.index-digest"
	annotationImageManifest = "com.amazon.soci.image-manifest-digest"
	annotationDisableXattrs = "com.amazon.soci.disable-xattrs"
)

// encodeIndex gives the bytes of a SOCI index manifest. Prefetch artifacts
// stand behind the zTOCs, in layer order.
func encodeIndex(configType string, subject *v1.Descriptor, layers []IndexLayer, prefetch []v1.Descriptor) ([]byte, error) {
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		// No artifactType: the type stands in the config, as clients expect.
		Config:      v1.Descriptor{MediaType: configType, Digest: oci.EmptyDigest, Size: int64(len(oci.EmptyJSON))},
		Layers:      make([]v1.Descriptor, 0, len(layers)+len(prefetch)),
		Subject:     subject,
		Annotations: map[string]string{annotationBuildTool: buildTool},
	}
	for _, l := range layers {
		d := v1.Descriptor{
			MediaType: mediaTypeZTOC, Digest: l.ZTOC, Size: l.ZTOCSize,
			Annotations: map[string]string{
				annotationLayerDigest:    l.Layer.Digest.String(),
				annotationLayerMediaType: l.Layer.MediaType,
				annotationSpanSize:       strconv.FormatInt(l.SpanSize, 10),
			},
		}
		if l.NoXattrs {
			d.Annotations[annotationDisableXattrs] = "true"
		}
		m.Layers = append(m.Layers, d)
	}
	m.Layers = append(m.Layers, prefetch...)
	return json.Marshal(m)
}

// EncodeIndexV2 gives the bytes of the SOCI v2 index of an image with these
// layers. It names no image: the image names it, see Convert.
func EncodeIndexV2(layers []IndexLayer, prefetch []v1.Descriptor) ([]byte, error) {
	if len(layers) == 0 {
		return nil, fmt.Errorf("encode SOCI v2 index: no layer has a zTOC")
	}
	return encodeIndex(oci.MediaTypeSOCIIndexV2, nil, layers, prefetch)
}

// Source is an image as `soci convert` begins with it.
type Source struct {
	Descriptor v1.Descriptor            // of the image index, or of the one manifest
	Body       []byte                   // what it describes
	Platform   v1.Platform              // of the one manifest, from its config
	Manifests  map[digest.Digest][]byte // those that the index names and that could be had; of one manifest itself
}

// PlatformIndex is a SOCI v2 index of one platform of it.
type PlatformIndex struct {
	Manifest digest.Digest // of the source's manifest
	Platform v1.Platform   // as it was asked for
	Body     []byte        // of the SOCI index
}

// Converted is a SOCI v2 image: manifests of which the last is its index.
type Converted []ConvertedManifest

// ConvertedManifest is a manifest that was made, and what it was made of.
type ConvertedManifest struct {
	Descriptor v1.Descriptor
	Body       []byte
	Of         digest.Digest
}

// Index is the converted image index.
func (c Converted) Index() ConvertedManifest { return c[len(c)-1] }

// Convert gives what `soci convert` v0.15.0 writes for the same source and
// SOCI indexes, byte for byte, in an order in which each can be stored: what is
// named before what names it. Manifests that come out as they were are left out.
func Convert(src Source, indexes []PlatformIndex) (Converted, error) {
	index, err := src.index()
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", src.Descriptor.Digest, err)
	}
	var out Converted
	soci := map[digest.Digest]v1.Descriptor{} // by manifest of the source
	for _, x := range indexes {
		d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(x.Body), Size: int64(len(x.Body))}
		out = append(out, ConvertedManifest{d, x.Body, x.Manifest})
		soci[x.Manifest] = d
	}
	renamed := map[digest.Digest]digest.Digest{}
	for i := range index.Manifests {
		d := &index.Manifests[i]
		body, here := src.Manifests[d.Digest]
		if !here || !isImageManifest(d.MediaType) {
			continue
		}
		now, body, err := rewrite(*d, body, soci[d.Digest].Digest)
		if err != nil {
			return nil, fmt.Errorf("convert manifest %s: %w", d.Digest, err)
		}
		renamed[d.Digest] = now.Digest
		if now.Digest != d.Digest {
			out = append(out, ConvertedManifest{v1.Descriptor{MediaType: now.MediaType, Digest: now.Digest, Size: now.Size}, body, d.Digest})
		}
		*d = now
	}
	for _, x := range indexes {
		d, platform := soci[x.Manifest], x.Platform
		d.Annotations = map[string]string{annotationImageManifest: renamed[x.Manifest].String()}
		d.Platform, d.ArtifactType = &platform, oci.MediaTypeSOCIIndexV2
		index.Manifests = append(index.Manifests, d)
	}
	body, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", src.Descriptor.Digest, err)
	}
	d := v1.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	return append(out, ConvertedManifest{d, body, src.Descriptor.Digest}), nil
}

// index is what the conversion starts from.
func (s *Source) index() (index v1.Index, err error) {
	if s.Descriptor.MediaType == v1.MediaTypeImageIndex || s.Descriptor.MediaType == oci.MediaTypeDockerManifestList {
		err = json.Unmarshal(s.Body, &index)
		index.MediaType = v1.MediaTypeImageIndex
		return index, err
	}
	platform := oci.NormalPlatform(s.Platform)
	return v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: s.Descriptor.MediaType, Digest: s.Descriptor.Digest, Size: s.Descriptor.Size, Platform: &platform,
		}},
	}, nil
}

func isImageManifest(mediaType string) bool {
	return mediaType == v1.MediaTypeImageManifest || mediaType == oci.MediaTypeDockerManifest
}

// rewrite gives a manifest in the canonical form, with the digest of its SOCI
// index where it has one. What the descriptor said in annotations is lost, as
// with the official tool.
func rewrite(d v1.Descriptor, body []byte, soci digest.Digest) (v1.Descriptor, []byte, error) {
	var m v1.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return d, nil, err
	}
	m.MediaType, m.Config.MediaType = v1.MediaTypeImageManifest, v1.MediaTypeImageConfig
	if soci != "" {
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations[annotationIndexDigest] = soci.String()
	}
	body, err := json.Marshal(m)
	return v1.Descriptor{
		MediaType: m.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body)), Annotations: m.Annotations, Platform: d.Platform,
	}, body, err
}

// PrefetchSpans are spans of a layer, first to last, that a start needs.
type PrefetchSpans struct {
	First    int `json:"start_span"`
	Last     int `json:"end_span"`
	Priority int `json:"priority,omitempty"`
}

// EncodePrefetch gives the bytes of a layer's prefetch artifact, and how an
// index names it.
func EncodePrefetch(layer digest.Digest, spans []PrefetchSpans) ([]byte, v1.Descriptor, error) {
	body, err := json.Marshal(struct {
		Version string          `json:"version"`
		Spans   []PrefetchSpans `json:"prefetch_spans"`
	}{"1.0", spans})
	return body, v1.Descriptor{
		MediaType: oci.MediaTypeSOCIPrefetch, Digest: digest.FromBytes(body), Size: int64(len(body)),
		Annotations: map[string]string{annotationLayerDigest: layer.String()},
	}, err
}
