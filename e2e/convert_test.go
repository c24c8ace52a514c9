package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestConvertedTag: after the first pull of an image ordinary clients pull its
// converted form by TAG-soci: the same config and layers, and all that it names
// is there under the same repository.
func TestConvertedTag(t *testing.T) {
	p := startProxy(t, link.Options{})
	i := image(t, realimage.ImageToolchain)
	name, tag, _ := strings.Cut(i.Ref(), ":")
	path := manifestPath(name, tag+"-soci")
	if a := p.get(t, path); a.StatusCode != http.StatusNotFound {
		t.Fatalf("before the first pull: %d", a.StatusCode)
	}
	if err := craneProgram().pull(t.Context(), p.ref(i), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the converted image", func() bool { return p.get(t, path).StatusCode == http.StatusOK })
	eachBlobOnce(t, p.link, i) // a conversion that needs the config takes it from what was pulled
	index := decode[v1.Index](t, p.get(t, path))
	var image, soci *v1.Descriptor
	for k := range index.Manifests {
		if d := &index.Manifests[k]; d.ArtifactType == "application/vnd.amazon.soci.index.v2+json" {
			soci = d
		} else {
			image = d
		}
	}
	if image == nil || soci == nil || soci.Annotations["com.amazon.soci.image-manifest-digest"] != image.Digest.String() {
		t.Fatalf("converted image index: %+v", index)
	}
	m := decode[v1.Manifest](t, p.get(t, manifestPath(name, image.Digest.String())))
	var was v1.Manifest
	if err := json.Unmarshal(i.Manifest, &was); err != nil {
		t.Fatal(err)
	}
	if m.Config.Digest != was.Config.Digest || len(m.Layers) != len(was.Layers) || m.Annotations["com.amazon.soci.index-digest"] != soci.Digest.String() {
		t.Errorf("converted manifest: %+v, of %+v", m, was)
	}
	s := decode[v1.Manifest](t, p.get(t, manifestPath(name, soci.Digest.String())))
	for _, z := range append(s.Layers, s.Config) {
		if _, err := p.download(t.Context(), blobPath(name, z.Digest), z.Digest); err != nil {
			t.Errorf("%s of the SOCI index: %v", z.MediaType, err)
		}
	}
	fetchSOCI(t, newRemote(t, p.Addr+"/"+upstream+"/"+name), p.Addr+"/"+upstream+"/"+name+":"+tag+"-soci", v1.Descriptor{Digest: soci.Digest})
	for _, c := range []puller{craneProgram(), skopeoProgram()} {
		dir := filepath.Join(t.TempDir(), c.name)
		if err := c.pull(t.Context(), p.ref(i)+"-soci", dir); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, d := range i.Blobs() {
			sameFile(t, c.blob(dir, d), d)
		}
	}
	if a := p.get(t, repo(name)+"/tags/list"); strings.Contains(string(a.body), "-soci") {
		t.Errorf("the virtual tag is listed: %s", a.body)
	}
}
