package storage_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func TestLean(t *testing.T) {
	full := v1.Descriptor{
		MediaType: "m", Digest: digest.FromString("d"), Size: 1, ArtifactType: "a", Platform: &v1.Platform{OS: "linux"},
		Data: []byte("data"), URLs: []string{"https://example.com"},
		Annotations: map[string]string{"text": "x", "com.amazon.soci.span-size": "1", "com.amazon.soci.long": strings.Repeat("x", 2000), "vnd.docker.reference.digest": "y"},
	}
	left := full
	left.Data, left.URLs = nil, nil
	left.Annotations = map[string]string{"com.amazon.soci.span-size": "1", "vnd.docker.reference.digest": "y"}
	row := storage.ManifestRow{Size: 64<<10 + 1, Manifest: oci.Manifest{
		MediaType: "m", ArtifactType: "a", Config: &full, Subject: &full, Layers: []v1.Descriptor{full}, Annotations: map[string]string{"text": "x"},
	}}
	before := row
	want := storage.ManifestRow{Size: row.Size, Manifest: oci.Manifest{
		MediaType: "m", ArtifactType: "a", Config: &left, Subject: &left, Layers: []v1.Descriptor{left},
	}}
	if diff := cmp.Diff(want, row.Lean()); diff != "" {
		t.Errorf("a large one (-want +got):\n%s", diff)
	}
	row.Size--
	before.Size--
	if diff := cmp.Diff(before, row.Lean()); diff != "" {
		t.Errorf("a small one changes (-want +got):\n%s", diff)
	}
}
