package web

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestStatsOfName: an image that two repositories have is called what it was asked for.
func TestStatsOfName(t *testing.T) {
	s := storagetest.NewStore(t)
	team, lab := oci.Repo{Upstream: "team", Name: "app"}, oci.Repo{Upstream: "lab", Name: "library/redis"}
	d, list := digest.FromString("image"), digest.FromString("list")
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		one := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: d}
		errs := []error{
			tx.PutManifest(storage.ManifestRow{Digest: d, Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest}}),
			tx.PutManifest(storage.ManifestRow{Digest: list, Manifest: oci.Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{one}}}),
			tx.PutImage(storage.ImageRow{Manifest: one, Repos: []oci.Repo{team, lab}, Platform: "linux/amd64"}),
			tx.PutTag(storage.TagRow{Repo: team, Tag: "v1", Digest: d}),
			tx.PutTag(storage.TagRow{Repo: lab, Tag: "7", Digest: d}),
			tx.PutTag(storage.TagRow{Repo: lab, Tag: "7.2", Digest: d}),
			tx.PutTag(storage.TagRow{Repo: lab, Tag: "all", Digest: list}),
		}
		for _, repo := range []oci.Repo{team, lab} {
			errs = append(errs, tx.PutRight(repo, d), tx.PutRight(repo, list))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]struct{ reference, repository string }{
		"team/app:v1":                          {"team/app:v1", "team/app"},
		"lab/library/redis:7":                  {"lab/library/redis:7", "lab/library/redis"},
		"lab/redis:7":                          {"lab/library/redis:7", "lab/library/redis"},
		"lab/library/redis:all":                {"lab/library/redis:all", "lab/library/redis"},
		"lab/library/redis@" + d.String():      {"lab/library/redis@" + d.String(), "lab/library/redis"},
		"127.0.0.1:5000/lab/library/redis:7.2": {"lab/library/redis:7.2", "lab/library/redis"},
		d.String():                             {"team/app:v1", "team/app"},
	} {
		got, err := StatsOf(t.Context(), s, word)
		if err != nil || len(got.Images) != 1 {
			t.Errorf("%s: %+v, %v", word, got, err)
			continue
		}
		if x := got.Images[0]; x.Reference != want.reference || x.Repository != want.repository || len(x.Tags) == 0 || x.Manifest != d {
			t.Errorf("%s: %s of %s with %q, want %+v", word, x.Reference, x.Repository, x.Tags, want)
		}
	}
}
