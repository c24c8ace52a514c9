package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme"
	"github.com/regclient/regclient/types/ref"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sociable/sociable/e2e/link"
)

// orasRepository is a repository as oras-go knows it.
func orasRepository(t *testing.T, p *proxy, name string) *remote.Repository {
	t.Helper()
	r, err := remote.NewRepository(p.Addr + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	return r
}

// orasArtifact pushes an artifact with one file, to subject if that is not nil.
func orasArtifact(t *testing.T, r *remote.Repository, artifactType, text string, subject *v1.Descriptor) v1.Descriptor {
	t.Helper()
	store := memory.New()
	layer := content.NewDescriptorFromBytes("application/octet-stream", []byte(text))
	if err := store.Push(t.Context(), layer, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	d, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, artifactType, oras.PackManifestOptions{
		Layers: []v1.Descriptor{layer}, Subject: subject,
	})
	if err == nil {
		err = oras.CopyGraph(t.Context(), store, r, d, oras.DefaultCopyGraphOptions)
	}
	if err != nil {
		t.Fatalf("push %s: %v", artifactType, err)
	}
	return d
}

// TestArtifactsByOras attaches an SBOM and a signature, lists and copies them,
// and deletes one.
func TestArtifactsByOras(t *testing.T) {
	p := startProxy(t, link.Options{})
	r := orasRepository(t, p, "local/art/app")
	image := orasArtifact(t, r, "application/x-app", "app", nil)
	sbom := orasArtifact(t, r, "application/spdx+json", "sbom", &image)
	sig := orasArtifact(t, r, "application/vnd.dev.cosign.artifact.sig.v1+json", "signature", &image)
	if err := r.Tag(t.Context(), image, "v1"); err != nil {
		t.Fatal(err)
	}
	// cosign's own way: a tag made of the subject's digest.
	if err := r.Tag(t.Context(), sig, "sha256-"+image.Digest.Encoded()+".sig"); err != nil {
		t.Fatal(err)
	}
	if got := orasReferrers(t, r, image, ""); len(got) != 2 {
		t.Errorf("referrers %v, want 2", got)
	}
	if got := orasReferrers(t, r, image, "application/spdx+json"); len(got) != 1 || got[0].Digest != sbom.Digest {
		t.Errorf("SBOMs %v, want %s", got, sbom.Digest)
	}
	to := orasRepository(t, p, "local/art/copy")
	if _, err := oras.ExtendedCopy(t.Context(), r, "v1", to, "v2", oras.DefaultExtendedCopyOptions); err != nil {
		t.Fatal(err)
	}
	if got := orasReferrers(t, to, image, ""); len(got) != 2 {
		t.Errorf("referrers of the copy %v, want 2", got)
	}
	if err := r.Delete(t.Context(), sbom); err != nil {
		t.Error(err)
	}
	if got := orasReferrers(t, r, image, ""); len(got) != 1 || got[0].Digest != sig.Digest {
		t.Errorf("referrers after a deletion %v, want %s", got, sig.Digest)
	}
	if got := orasReferrers(t, to, image, ""); len(got) != 2 {
		t.Errorf("referrers of the copy after that %v, want 2", got)
	}
	var tags []string
	err := r.Tags(t.Context(), "", func(page []string) error { tags = append(tags, page...); return nil })
	if err != nil || len(tags) != 2 {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func orasReferrers(t *testing.T, r *remote.Repository, subject v1.Descriptor, artifactType string) (found []v1.Descriptor) {
	t.Helper()
	if err := r.SetReferrersCapability(true); err != nil && !strings.Contains(err.Error(), "already") {
		t.Fatal(err)
	}
	err := r.Referrers(t.Context(), subject, artifactType, func(page []v1.Descriptor) error { found = append(found, page...); return nil })
	if err != nil {
		t.Errorf("referrers: %v", err)
	}
	return found
}

// TestRegclient copies with referrers, mounts, lists and deletes.
func TestRegclient(t *testing.T) {
	p := startProxy(t, link.Options{})
	r := orasRepository(t, p, "local/reg/app")
	image := orasArtifact(t, r, "application/x-app", "app", nil)
	orasArtifact(t, r, "application/spdx+json", "sbom", &image)
	if err := r.Tag(t.Context(), image, "v1"); err != nil {
		t.Fatal(err)
	}
	rc := regclient.New(regclient.WithConfigHost(config.Host{Name: p.Addr, Hostname: p.Addr, TLS: config.TLSDisabled}))
	at := func(name string) ref.Ref {
		t.Helper()
		x, err := ref.New(p.Addr + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	from, to := at("local/reg/app:v1"), at("local/reg/copy:v2")
	defer closeRefs(t, rc, from, to)
	if err := rc.ImageCopy(t.Context(), from, to, regclient.ImageWithReferrers(), regclient.ImageWithDigestTags()); err != nil {
		t.Fatal(err)
	}
	list, err := rc.ReferrerList(t.Context(), to)
	if err != nil || len(list.Descriptors) != 1 {
		t.Errorf("referrers of the copy: %v, %v", list.Descriptors, err)
	}
	tags, err := rc.TagList(t.Context(), to)
	if err != nil || len(tags.Tags) != 1 || tags.Tags[0] != "v2" {
		t.Errorf("tags: %+v, %v", tags, err)
	}
	repos, err := rc.RepoList(t.Context(), p.Addr, scheme.WithRepoLimit(1))
	if err != nil || len(repos.Repositories) != 1 || repos.Repositories[0] != "local/reg/app" {
		t.Errorf("repositories: %+v, %v", repos, err)
	}
	if err := rc.TagDelete(t.Context(), to); err != nil {
		t.Errorf("delete a tag: %v", err)
	}
	if err := rc.ManifestDelete(t.Context(), to.SetDigest(image.Digest.String())); err != nil {
		t.Errorf("delete a manifest: %v", err)
	}
	if m, err := rc.ManifestHead(t.Context(), to); err == nil {
		t.Errorf("after that there is %s", m.GetDescriptor().Digest)
	}
	if m, err := rc.ManifestHead(t.Context(), from); err != nil || m.GetDescriptor().Digest != digest.Digest(image.Digest) {
		t.Errorf("the original: %v", err)
	}
}

func closeRefs(t *testing.T, rc *regclient.RegClient, refs ...ref.Ref) {
	t.Helper()
	for _, r := range refs {
		if err := rc.Close(context.WithoutCancel(t.Context()), r); err != nil {
			t.Errorf("close %s: %v", r.CommonName(), err)
		}
	}
}
