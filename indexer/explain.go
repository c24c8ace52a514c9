package indexer

import (
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Choose gives the number of the rule that applies to an image of repo to which
// tags lead; -1 when none does.
func Choose(rules []Rule, repo oci.Repo, tags []string) int {
	return ruleFor(rules, named{repo, tags})
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

// Built gives the rule by which the layers of an image that was seen are indexed,
// and its number, -1 when none applies: one rule for all the repositories that it is
// in, with what an operator asked for over it.
func Built(rules []Rule, img *storage.ImageRow) (i int, rule *Rule) {
	if i = choose(rules, img); i >= 0 {
		rule = &rules[i]
	}
	return i, asAsked(rule, img.Asked, img.Asked != nil)
}

// Offered is rule, nil being none, of the repository of an image that was seen, as it
// holds for what is offered of it there: with what an operator asked for over it. It is
// nil where an operator withdrew that.
func Offered(rule *Rule, img *storage.ImageRow, repo oci.Repo) *Rule {
	if img.WithdrawnFrom(repo) {
		return nil
	}
	return asAsked(rule, img.Asked, img.Asked.In(repo))
}
