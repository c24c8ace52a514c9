package indexer

import (
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Annotations of a SOCI index and of its zTOC descriptors.
const (
	annotationBuildTool      = "com.amazon.soci.build-tool-identifier"
	annotationLayerDigest    = "com.amazon.soci.image-layer-digest"
	annotationLayerMediaType = "com.amazon.soci.image-layer-mediaType"
	annotationSpanSize       = "com.amazon.soci.span-size"
)

// buildTool names the builder whose bytes these are: it is part of them.
const buildTool = "AWS SOCI CLI v0.2"

// mediaTypeZTOC is the media type of a zTOC in an index.
const mediaTypeZTOC = "application/octet-stream"

// IndexLayer is a layer that has a zTOC, as it stands in a SOCI index.
type IndexLayer struct {
	Layer    v1.Descriptor // of the image's layer; only mediaType and digest are used
	ZTOC     digest.Digest
	ZTOCSize int64
	SpanSize int64 // that the zTOC was built with
	NoXattrs bool  // the official tool's xattr optimization: no file has any, as far as clients care
}

// EncodeIndexV1 gives the bytes of the SOCI v1 index manifest of the image
// manifest subject, of which only mediaType, digest and size are used. layers
// stand in the image's order; a layer that the image names twice stands twice.
//
// The bytes are canonical: clients decode an index, encode it again and keep
// the result under the digest of what they fetched, so nothing but this form
// is accepted. The only error is one of an empty list: a SOCI index names at
// least one zTOC.
func EncodeIndexV1(subject v1.Descriptor, layers []IndexLayer) ([]byte, error) {
	return EncodeIndexV1With(subject, layers, nil)
}

// EncodeIndexV1With is EncodeIndexV1 for an index that names prefetch artifacts
// besides, which stand behind the zTOCs.
func EncodeIndexV1With(subject v1.Descriptor, layers []IndexLayer, prefetch []v1.Descriptor) ([]byte, error) {
	if len(layers) == 0 {
		return nil, fmt.Errorf("encode SOCI index of %s: no layer has a zTOC", subject.Digest)
	}
	body, err := encodeIndex(oci.MediaTypeSOCIIndexV1,
		&v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}, layers, prefetch)
	if err != nil {
		return nil, fmt.Errorf("encode SOCI index of %s: %w", subject.Digest, err)
	}
	return body, nil
}
