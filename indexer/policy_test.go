package indexer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		mediaType string
		want      compression
		skip      string // its word
	}{
		{"application/vnd.oci.image.layer.v1.tar+gzip", compressionGzip, ""},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", compressionGzip, ""},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip", compressionGzip, ""},
		{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", compressionGzip, ""},
		{"application/vnd.oci.image.layer.v1.tar", compressionUncompressed, ""},
		{"application/vnd.docker.image.rootfs.diff.tar", compressionUncompressed, ""},
		{"application/vnd.docker.image.rootfs.foreign.diff.tar", compressionUncompressed, ""},
		{"application/vnd.oci.image.layer.v1.tar+zstd", "", ReasonZstd},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "", ReasonZstd},
		{"application/vnd.docker.image.rootfs.diff.tar.zstd", "", ReasonZstd},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar", "", ReasonForeign},
		{"application/vnd.oci.image.layer.v1.tar+encrypted", "", ReasonEncrypted},
		{"application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "", ReasonEncrypted},
		{"application/vnd.oci.image.layer.v1.tar+encrypted+gzip", "", ReasonEncrypted},
		{"application/vnd.oci.image.layer.v1.tar+bzip2", "", ReasonUnsupportedType},
		{"application/vnd.oci.image.layer.v2.tar+gzip", "", ReasonUnsupportedType},
		{"application/vnd.oci.image.layer.v1.squashfs", "", ReasonUnsupportedType},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip+x", "", ReasonUnsupportedType},
		{"application/vnd.in-toto+json", "", ReasonUnsupportedType},
		{"application/octet-stream", "", ReasonUnsupportedType},
		{"", "", ReasonUnsupportedType},
	}
	for _, tt := range tests {
		t.Run(tt.mediaType, func(t *testing.T) {
			c, skip := classify(tt.mediaType)
			if c != tt.want || ReasonWord(skip) != tt.skip {
				t.Errorf("%q, %q; want %q, %q", c, skip, tt.want, tt.skip)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	layer := func(mediaType string, size int64) v1.Descriptor {
		return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest.FromString(mediaType)}
	}
	gzip, zstd, toto := "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.in-toto+json"
	decorated := layer(gzip, 100)
	decorated.Annotations, decorated.Data, decorated.URLs = map[string]string{"a": "b"}, []byte("x"), []string{"https://example.com"}
	tests := []struct {
		name   string
		rule   *Rule
		layers []v1.Descriptor
		want   []storage.ImageLayer
	}{
		{"no rule", nil, []v1.Descriptor{layer(gzip, 100), layer(toto, 1)}, []storage.ImageLayer{
			{Descriptor: layer(gzip, 100), Skip: "rule"}, {Descriptor: layer(toto, 1), Skip: "rule"},
		}},
		{"bounds", &Rule{MinLayerSize: 100, SpanSize: 7}, []v1.Descriptor{layer(gzip, 100), layer(gzip, 99), layer(zstd, 99), layer(toto, 99)},
			[]storage.ImageLayer{
				{Descriptor: layer(gzip, 100), SpanSize: 7},
				{Descriptor: layer(gzip, 99), Skip: "too-small: 99 bytes, 100 wanted"},
				{Descriptor: layer(zstd, 99), Skip: "too-small: 99 bytes, 100 wanted"},
				{Descriptor: layer(toto, 99), Skip: "unsupported-type: " + toto},
			}},
		{"defaults", &Rule{}, []v1.Descriptor{layer(gzip, 0), layer(zstd, 1)}, []storage.ImageLayer{
			{Descriptor: layer(gzip, 0), SpanSize: 4 << 20}, {Descriptor: layer(zstd, 1), Skip: "zstd"},
		}},
		{"prefetch is no layer", &Rule{}, []v1.Descriptor{layer(oci.MediaTypeSOCIPrefetch, 1), layer(gzip, 1), layer(gzip, 1)},
			[]storage.ImageLayer{{Descriptor: layer(gzip, 1), SpanSize: 4 << 20}, {Descriptor: layer(gzip, 1), SpanSize: 4 << 20}}},
		{"platform", &Rule{Platforms: []string{"linux/arm64", "linux/arm/v7"}}, []v1.Descriptor{layer(gzip, 1), layer(toto, 1)},
			[]storage.ImageLayer{
				{Descriptor: layer(gzip, 1), Skip: "platform: it is linux/amd64"}, {Descriptor: layer(toto, 1), Skip: "platform: it is linux/amd64"},
			}},
		{"small image", &Rule{MinImageSize: 100, MinLayerSize: 10}, []v1.Descriptor{layer(gzip, 50), layer(gzip, 49)},
			[]storage.ImageLayer{
				{Descriptor: layer(gzip, 50), Skip: "image-too-small: 99 bytes, 100 wanted"},
				{Descriptor: layer(gzip, 49), Skip: "image-too-small: 99 bytes, 100 wanted"},
			}},
		{"image of the least size", &Rule{MinImageSize: 100, MinLayerSize: 50, SpanSize: 7}, []v1.Descriptor{layer(gzip, 51), layer(gzip, 49)},
			[]storage.ImageLayer{
				{Descriptor: layer(gzip, 51), SpanSize: 7}, {Descriptor: layer(gzip, 49), Skip: "too-small: 49 bytes, 50 wanted"},
			}},
		{"descriptors are cut down", &Rule{}, []v1.Descriptor{decorated},
			[]storage.ImageLayer{{Descriptor: layer(gzip, 100), SpanSize: 4 << 20}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, decide(tt.rule, "linux/amd64", tt.layers)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIndexable(t *testing.T) {
	layers := func(types ...string) (ds []v1.Descriptor) {
		for _, mt := range types {
			ds = append(ds, v1.Descriptor{MediaType: mt})
		}
		return ds
	}
	gzip, toto := "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.in-toto+json"
	tests := []struct {
		name string
		m    oci.Manifest
		want bool
	}{
		{"image", oci.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: layers(gzip)}, true},
		{"docker image", oci.Manifest{MediaType: oci.MediaTypeDockerManifest, Layers: layers(oci.MediaTypeDockerLayerGzip)}, true},
		{"image with something else in it", oci.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: layers(toto, gzip)}, true},
		{"image without layers", oci.Manifest{MediaType: v1.MediaTypeImageManifest}, false},
		{"attestation", oci.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: layers(toto)}, false},
		{"index", oci.Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: layers(v1.MediaTypeImageManifest)}, false},
		{"list", oci.Manifest{MediaType: oci.MediaTypeDockerManifestList}, false},
		{"SOCI v1 index", oci.Manifest{MediaType: v1.MediaTypeImageManifest, ArtifactType: oci.MediaTypeSOCIIndexV1, Layers: layers(gzip)}, false},
		{"SOCI v2 index", oci.Manifest{MediaType: v1.MediaTypeImageManifest, ArtifactType: oci.MediaTypeSOCIIndexV2, Layers: layers(gzip)}, false},
		{"converted image", oci.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: layers(gzip),
			Annotations: map[string]string{"com.amazon.soci.index-digest": "sha256:x"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := indexable(&tt.m); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	if got := ReasonWord("malformed: as gzip, deflate at offset 3: x: y"); got != ReasonMalformed {
		t.Errorf("got %q", got)
	}
	tests := []struct {
		reason string
		c      compression
		want   bool
	}{
		{"malformed: as gzip, tar-header at offset 0: x", compressionGzip, true},
		{"malformed: as gzip, tar-header at offset 0: x", compressionUncompressed, false},
		{"malformed: as gzip, x; as uncompressed, y", compressionUncompressed, true},
		{"client-rejects: as gzip, x", compressionGzip, false},
		{"", compressionGzip, false},
	}
	for _, tt := range tests {
		if got := wasTried(tt.reason, tt.c); got != tt.want {
			t.Errorf("%q covers %s: %v, want %v", tt.reason, tt.c, got, tt.want)
		}
	}
}
