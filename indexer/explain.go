package indexer

import (
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Choose gives the number of the rule that applies to an image of repo to which
// tags lead; -1 when none does.
func Choose(rules []Rule, repo oci.Repo, tags []string) int {
	return ruleFor(rules, []named{{repo, tags}})
}

// Decide says what rule, nil being none, does with each layer of the image of a
// platform, as an image index spells that, nil where none names it. Layers that
// are none, prefetch artifacts, are left out. ok is false for what is no image:
// an attestation, say.
func Decide(rule *Rule, platform *v1.Platform, layers []v1.Descriptor) (out []storage.ImageLayer, ok bool) {
	if !indexable(&oci.Manifest{Layers: layers}) {
		return nil, false
	}
	return decide(rule, platformName(platform), layers), true
}
