package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types beside those of image-spec. The Docker ones are those of the
// image manifest version 2, schema 2.
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	MediaTypeDockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	MediaTypeDockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	MediaTypeDockerForeign      = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	MediaTypeDockerForeignGzip  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

	// SOCIPrefix begins the artifact type of whatever SOCI tools make.
	SOCIPrefix = "application/vnd.amazon.soci."

	MediaTypeSOCIIndexV1  = "application/vnd.amazon.soci.index.v1+json"
	MediaTypeSOCIIndexV2  = "application/vnd.amazon.soci.index.v2+json"
	MediaTypeSOCIPrefetch = "application/vnd.amazon.soci.prefetch.v1+json"
)

// ManifestTypes are the media types that are offered to an upstream and that
// are understood when they come back, most wanted first.
var ManifestTypes = []string{
	v1.MediaTypeImageIndex, v1.MediaTypeImageManifest,
	MediaTypeDockerManifestList, MediaTypeDockerManifest,
}

// MaxManifestBytes is the size a registry should accept at least and we accept
// at most (distribution specification, "Pushing manifests").
const MaxManifestBytes = 4 << 20

// MaxDescriptors bounds what one manifest may name: each costs a look at a row
// and at a file when the manifest comes.
const MaxDescriptors = 10_000

// EmptyJSON is the content `{}` of an empty config (image-spec, "Guidance for
// an Empty Descriptor"); EmptyDigest is its digest.
var (
	EmptyJSON   = []byte("{}")
	EmptyDigest = digest.FromBytes(EmptyJSON)
)

// Layer is a layer descriptor together with the repository it was named in.
type Layer struct {
	Repo Repo
	v1.Descriptor
}

// Manifest is what the proxy needs of any manifest or index.
type Manifest struct {
	MediaType    string
	ArtifactType string // artifactType, or config.mediaType when that is absent
	Config       *v1.Descriptor
	Layers       []v1.Descriptor // image manifests
	Manifests    []v1.Descriptor // indexes
	Subject      *v1.Descriptor
	Annotations  map[string]string
}

// IsIndex reports an OCI image index or a Docker manifest list.
func (m *Manifest) IsIndex() bool {
	return m.MediaType == v1.MediaTypeImageIndex || m.MediaType == MediaTypeDockerManifestList
}

// IsSOCI reports a SOCI index manifest, an image that carries one, or an image
// index that lists one: those are never indexed or converted again.
func (m *Manifest) IsSOCI() bool {
	if strings.HasPrefix(m.ArtifactType, SOCIPrefix) || m.Annotations["com.amazon.soci.index-digest"] != "" {
		return true
	}
	for i := range m.Manifests {
		d := &m.Manifests[i]
		if strings.HasPrefix(d.ArtifactType, SOCIPrefix) || d.Annotations["com.amazon.soci.image-manifest-digest"] != "" ||
			d.Annotations["com.amazon.soci.index-digest"] != "" {
			return true
		}
	}
	return false
}

// ErrManifest is wrapped by every error of ParseManifest.
var ErrManifest = errors.New("invalid manifest")

// ParseManifest reads an image manifest or index. mediaType is the
// Content-Type it came with, which decides when the document names none. A
// document whose own mediaType differs from a recognised Content-Type, and one
// that is image and index at once, is refused: two clients would read it
// differently (CVE-2021-41190).
func ParseManifest(body []byte, mediaType string) (*Manifest, error) {
	if len(body) > MaxManifestBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrManifest, len(body), MaxManifestBytes)
	}
	var doc struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		ArtifactType  string            `json:"artifactType"`
		Config        *v1.Descriptor    `json:"config"`
		Layers        []v1.Descriptor   `json:"layers"`
		Manifests     []v1.Descriptor   `json:"manifests"`
		Subject       *v1.Descriptor    `json:"subject"`
		Annotations   map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrManifest, unreadable(err))
	}
	if doc.SchemaVersion != 2 {
		return nil, fmt.Errorf("%w: schemaVersion %d, only 2 is supported", ErrManifest, doc.SchemaVersion)
	}
	if doc.Manifests != nil && (doc.Layers != nil || doc.Config != nil) {
		return nil, fmt.Errorf("%w: both an image and an index", ErrManifest)
	}
	if n := max(len(doc.Layers), len(doc.Manifests)); n > MaxDescriptors {
		return nil, fmt.Errorf("%w: it names %d blobs or manifests, at most %d are accepted", ErrManifest, n, MaxDescriptors)
	}
	m := &Manifest{
		MediaType: mediaType, ArtifactType: doc.ArtifactType, Config: doc.Config, Layers: doc.Layers,
		Manifests: doc.Manifests, Subject: doc.Subject, Annotations: doc.Annotations,
	}
	if err := m.settleType(doc.MediaType); err != nil {
		return nil, err
	}
	if m.ArtifactType == "" && m.Config != nil {
		m.ArtifactType = m.Config.MediaType
	}
	for _, list := range [][]v1.Descriptor{m.Layers, m.Manifests} {
		for i := range list {
			if err := checkDescriptor(&list[i]); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range []*v1.Descriptor{m.Config, m.Subject} {
		if d != nil {
			if err := checkDescriptor(d); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// unreadable says what is wrong with a document in the words of JSON, and not in
// those of this program's types.
func unreadable(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return "it is not JSON: " + err.Error()
	case wrong.Field == "":
		return "want a JSON object, got " + wrong.Value
	}
	return fmt.Sprintf("%s can't be %s", wrong.Field, wrong.Value)
}

// settleType decides between the Content-Type, the document's own mediaType
// and, where neither says anything usable, its shape.
func (m *Manifest) settleType(own string) error {
	got, _, _ := strings.Cut(m.MediaType, ";")
	got = strings.ToLower(strings.TrimSpace(got))
	switch {
	case own != "" && IsManifestType(got) && own != got:
		return fmt.Errorf("%w: Content-Type %q, but mediaType is %q", ErrManifest, got, own)
	case own != "":
		m.MediaType = own
	case IsManifestType(got):
		m.MediaType = got
	case m.Manifests != nil:
		m.MediaType = v1.MediaTypeImageIndex
	default:
		m.MediaType = v1.MediaTypeImageManifest
	}
	if !IsManifestType(m.MediaType) {
		return fmt.Errorf("%w: unsupported media type %q", ErrManifest, m.MediaType)
	}
	if m.IsIndex() != (m.Manifests != nil) && (m.Manifests != nil || m.Layers != nil || m.Config != nil) {
		return fmt.Errorf("%w: content does not fit media type %q", ErrManifest, m.MediaType)
	}
	return nil
}

// IsManifestType reports whether t is one of ManifestTypes.
func IsManifestType(t string) bool {
	for _, m := range ManifestTypes {
		if t == m {
			return true
		}
	}
	return false
}

func checkDescriptor(d *v1.Descriptor) error {
	if _, err := ParseDigest(d.Digest.String()); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%w: %s has size %d", ErrManifest, d.Digest, d.Size)
	}
	return nil
}
