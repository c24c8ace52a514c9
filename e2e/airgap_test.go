package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/content/oci"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestAirGap moves images to a cluster without a network in a bundle, reads that
// with other tools, and has real clients pull from the second instance when the
// first one and the upstream are dead.
func TestAirGap(t *testing.T) {
	dir := t.TempDir()
	bundle := filepath.Join(dir, "bundle.tar")
	images := []realimage.Image{image(t, realimage.ImageToolchain), image(t, realimage.ImageDocker), image(t, realimage.ImageMulti)}
	p := startProxy(t, link.Options{})
	args := []string{"export", "--data", p.Data, "-o", bundle, "--platform", "all"}
	for _, i := range images {
		args = append(args, upstream+"/"+i.Ref())
	}
	sociable(t, args...)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	skopeoReads(t, bundle, images[0])
	orasReads(t, bundle, images)

	far, err := harness.NewProxy(suite.Programs, t.TempDir(), []string{upstream + "=http://127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	far.Env = []string{"SOCIABLE_OFFLINE=true"}
	if err := far.Start(suite.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := far.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	sociable(t, "import", bundle, "--data", far.Data)
	pullAndCompare(t, craneProgram(), far.Addr+"/"+upstream+"/"+images[0].Ref(), images[0])
	pullAndCompare(t, skopeoProgram(), far.Addr+"/"+upstream+"/"+images[0].Ref(), images[0])
	pullAndCompare(t, skopeoProgram(), far.Addr+"/"+upstream+"/"+images[1].Ref(), images[1])
	list, err := far.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if x.Index == "" {
			t.Errorf("%s of %s has no index", x.Manifest, x.Repository)
		}
	}
	if len(list) < 3 {
		t.Errorf("%d images are indexed", len(list))
	}
}

// sociable runs the command.
func sociable(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := harness.Run(ctx, suite.Programs.Sociable, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("sociable %s:\n%s", args[0], out)
}

func skopeoReads(t *testing.T, bundle string, i realimage.Image) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := harness.Run(t.Context(), suite.Programs.Skopeo, "copy", "--insecure-policy", "--preserve-digests",
		"oci-archive:"+bundle+":"+upstream+"/"+i.Ref(), "dir:"+out); err != nil {
		t.Fatal(err)
	}
	for _, d := range i.Blobs() {
		sameFile(t, filepath.Join(out, d.Encoded()), d)
	}
}

// orasReads resolves and copies every image by its name, and finds the SOCI index
// of the first among what refers to it.
func orasReads(t *testing.T, bundle string, images []realimage.Image) {
	t.Helper()
	if _, err := os.Stat(bundle); err != nil {
		t.Fatal(err)
	}
	src, err := oci.NewFromTar(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		name := upstream + "/" + i.Ref()
		d, err := oras.Copy(t.Context(), src, name, memory.New(), name, oras.DefaultCopyOptions)
		if err != nil || d.Digest != i.Digest {
			t.Errorf("oras copies %s as %s, %v, want %s", name, d.Digest, err, i.Digest)
		}
	}
	refs, err := src.Predecessors(t.Context(), images[0].Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range refs {
		found = found || r.MediaType == v1.MediaTypeImageManifest && r.Digest != images[0].Digest
	}
	if !found {
		t.Errorf("no SOCI index among what refers to %s: %+v", images[0].Name, refs)
	}
}
