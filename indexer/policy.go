package indexer

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// compression is how a layer's bytes are to be read. Its media type alone
// decides, as with the official tool; the bytes are not looked at.
type compression string

const (
	compressionGzip         compression = "gzip"
	compressionUncompressed compression = "uncompressed"
)

func (c compression) ztoc() ztoc.Compression {
	if c == compressionGzip {
		return ztoc.Gzip
	}
	return ztoc.Uncompressed
}

// Compression says how a layer of mediaType is read when it is indexed, or why
// it is left out: then skip is the reason.
func Compression(mediaType string) (c ztoc.Compression, skip string) {
	how, skip := classify(mediaType)
	if skip != "" {
		return 0, skip
	}
	return how.ztoc(), ""
}

// ociLayerPrefix begins every layer media type of image-spec.
const ociLayerPrefix = "application/vnd.oci.image.layer."

// classify says how a layer of mediaType is read, or with which reason it is
// skipped. Of several suffixes ("+gzip+encrypted") the last in alphabetical
// order names the compression, except that nobody can read what is encrypted.
func classify(mediaType string) (c compression, skip string) {
	base, suffix := mediaType, ""
	if b, rest, ok := strings.Cut(mediaType, "+"); ok {
		suffixes := strings.Split(rest, "+")
		if isLayerType(b) && slices.Contains(suffixes, "encrypted") {
			return "", ReasonEncrypted
		}
		base, suffix = b, slices.Max(suffixes)
	}
	switch base + "+" + suffix {
	case v1.MediaTypeImageLayer + "+gzip", mediaTypeNonDistributable + "+gzip",
		oci.MediaTypeDockerLayerGzip + "+", oci.MediaTypeDockerForeignGzip + "+":
		return compressionGzip, ""
	case v1.MediaTypeImageLayer + "+", oci.MediaTypeDockerLayer + "+", oci.MediaTypeDockerForeign + "+":
		return compressionUncompressed, ""
	case v1.MediaTypeImageLayer + "+zstd", mediaTypeNonDistributable + "+zstd", oci.MediaTypeDockerLayerZstd + "+":
		return "", ReasonZstd
	case mediaTypeNonDistributable + "+":
		return "", ReasonForeign
	}
	return "", ReasonUnsupportedType + ": " + mediaType
}

// mediaTypeNonDistributable is deprecated in image-spec and still met.
const mediaTypeNonDistributable = ociLayerPrefix + "nondistributable.v1.tar"

// isLayerType reports a media type that is meant for a file system layer,
// understood or not.
func isLayerType(mediaType string) bool {
	base, _, _ := strings.Cut(mediaType, "+")
	switch base {
	case oci.MediaTypeDockerLayer, oci.MediaTypeDockerLayerGzip, oci.MediaTypeDockerLayerZstd,
		oci.MediaTypeDockerForeign, oci.MediaTypeDockerForeignGzip:
		return true
	}
	return strings.HasPrefix(base, ociLayerPrefix)
}

// indexable reports whether m is an image that could have an index at all:
// not an image index, not a SOCI index or an image that carries one, and not
// an artifact (attestation, signature, chart), which has no layer of a file
// system.
func indexable(m *oci.Manifest) bool {
	if m.IsIndex() || m.IsSOCI() {
		return false
	}
	for i := range m.Layers {
		if isLayerType(m.Layers[i].MediaType) {
			return true
		}
	}
	return false
}

// decide applies rule (nil: none) to the layers, in their order, of an image of
// platform ("": not known, and then wanted). Prefetch artifacts are no layers
// and are left out. Descriptors keep what an index needs of them.
func decide(rule *Rule, platform string, layers []v1.Descriptor) []storage.ImageLayer {
	var out []storage.ImageLayer
	var size int64
	for i := range layers {
		d := v1.Descriptor{MediaType: layers[i].MediaType, Digest: layers[i].Digest, Size: layers[i].Size}
		if d.MediaType != oci.MediaTypeSOCIPrefetch {
			out = append(out, storage.ImageLayer{Descriptor: d})
			size += d.Size
		}
	}
	skipAll := skipImage(rule, platform, size)
	for i := range out {
		if out[i].Skip = skipAll; skipAll == "" {
			out[i].Skip = skipReason(rule, out[i].Descriptor)
		}
		if out[i].Skip == "" {
			out[i].SpanSize = rule.spanSize()
		}
	}
	return out
}

// skipImage says why none of an image's layers is wanted, "" where some may be.
func skipImage(rule *Rule, platform string, size int64) string {
	switch {
	case rule == nil:
		return ReasonRule
	case platform != "" && len(rule.Platforms) > 0 && !slices.Contains(rule.Platforms, platform):
		return fmt.Sprintf("%s: it is %s", ReasonPlatform, platform)
	case size < rule.MinImageSize:
		return fmt.Sprintf("%s: %d bytes, %d wanted", ReasonImageTooSmall, size, rule.MinImageSize)
	}
	return ""
}

// skipReason asks in the official tool's order: what is too small is that,
// whatever its compression; what is no layer is refused before.
func skipReason(rule *Rule, d v1.Descriptor) string {
	_, skip := classify(d.MediaType)
	switch {
	case !isLayerType(d.MediaType):
		return skip
	case d.Size < rule.MinLayerSize:
		return fmt.Sprintf("%s: %d bytes, %d wanted", ReasonTooSmall, d.Size, rule.MinLayerSize)
	default:
		return skip
	}
}
