package indexer

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

func TestEncodeIndexV1(t *testing.T) {
	subject := v1.Descriptor{
		MediaType: oci.MediaTypeDockerManifest, Digest: digest.FromString("image"), Size: 5,
		Annotations: map[string]string{"dropped": "yes"}, Platform: &v1.Platform{OS: "linux"}, ArtifactType: "x",
	}
	layer := IndexLayer{
		Layer: v1.Descriptor{MediaType: "a/b+c&<d>", Digest: digest.FromString("layer"), Size: 9, URLs: []string{"dropped"}},
		ZTOC:  digest.FromString("ztoc"), ZTOCSize: 7, SpanSize: 1 << 16,
	}
	got, err := EncodeIndexV1(subject, []IndexLayer{layer, layer})
	if err != nil {
		t.Fatal(err)
	}
	one := `{"mediaType":"application/octet-stream","digest":"` + layer.ZTOC.String() + `","size":7,"annotations":{` +
		`"com.amazon.soci.image-layer-digest":"` + layer.Layer.Digest.String() + `",` +
		`"com.amazon.soci.image-layer-mediaType":"a/b+c\u0026\u003cd\u003e",` +
		`"com.amazon.soci.span-size":"65536"}}`
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.amazon.soci.index.v1+json",` +
		`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},` +
		`"layers":[` + one + `,` + one + `],` +
		`"subject":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` + subject.Digest.String() + `","size":5},` +
		`"annotations":{"com.amazon.soci.build-tool-identifier":"AWS SOCI CLI v0.2"}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// What a client does before it stores an index.
	var m v1.Manifest
	if err := json.Unmarshal(got, &m); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(again)); diff != "" {
		t.Errorf("decoded and encoded again (-first +again):\n%s", diff)
	}
}

func TestEncodeIndexV1WithoutLayers(t *testing.T) {
	if got, err := EncodeIndexV1(v1.Descriptor{Digest: digest.FromString("image")}, nil); err == nil {
		t.Errorf("got %s, want an error", got)
	}
}
