package indexer

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// An image manifest is one thing, in however many repositories it is: its layers
// have one zTOC each and it has one SOCI v1 index. What is made is made by one
// rule (ruleOf), whether it is offered in a repository is a matter of the rule of
// that repository (offersV1). Both follow from the configuration and from where
// the image is, and not from who asked for it first.

// DefaultMinLayerSize is how large a layer is at least that is indexed because it
// was asked for, where neither a rule nor who asks says anything else.
const DefaultMinLayerSize = 10 << 20

// ruleOf is the rule by which an image's layers are indexed, with what an operator
// asked for over it; nil when none wants it. Of the rules of its repositories it is
// the first, in the order of the configuration, that publishes an index and has a
// layer to index; where none has, the first that has zTOCs made; else the first.
func (x *Indexer) ruleOf(img *storage.ImageRow) *Rule {
	_, rule := Built(x.rules.Load().rules, img)
	return rule
}

// choose gives the number of the rule of ruleOf, -1 when there is none.
func choose(rules []Rule, img *storage.ImageRow) int {
	best, bestRank := -1, 0
	for _, n := range namesOf(img) {
		i := ruleFor(rules, n)
		if i < 0 {
			continue
		}
		r, rank := &rules[i], 2
		switch publishes := r.listsV1() || r.converts(); {
		case !wants(r, img):
		case publishes && !img.WithdrawnFrom(n.repo):
			rank = 0
		default:
			rank = 1
		}
		if best < 0 || rank < bestRank || rank == bestRank && i < best {
			best, bestRank = i, rank
		}
	}
	return best
}

// asAsked is rule, nil being none, with what an operator asked for over it; wanted
// says that an index was asked for whatever the rule publishes.
func asAsked(rule *Rule, a *storage.Asked, wanted bool) *Rule {
	if a == nil || rule == nil && !wanted {
		return rule
	}
	out := Rule{MinLayerSize: DefaultMinLayerSize, Publish: PublishNone}
	if rule != nil {
		out = *rule
	}
	if a.SpanSize != 0 {
		out.SpanSize = a.SpanSize
	}
	if a.MinLayerSize != nil {
		out.MinLayerSize = *a.MinLayerSize
	}
	if wanted {
		out.MinImageSize, out.Platforms = 0, nil
		if !out.listsV1() { // what index create makes is a v1 index, whatever the rule has beside it
			out.Publish = map[bool]string{false: PublishV1, true: PublishBoth}[out.converts()]
		}
	}
	return &out
}

// wants reports whether rule has a layer of an image indexed.
func wants(rule *Rule, img *storage.ImageRow) bool {
	for _, l := range decide(rule, img.Platform, layersOf(img)) {
		if l.Skip == "" {
			return true
		}
	}
	return false
}

// offersV1 reports whether the SOCI v1 index of an image is for those who pull it
// from repo.
func (x *Indexer) offersV1(img *storage.ImageRow, repo oci.Repo) bool {
	if img.WithdrawnFrom(repo) {
		return false
	}
	rule := asAsked(x.ruleFor(nameIn(img, repo)), img.Asked, img.Asked.In(repo))
	return rule.listsV1() && wants(rule, img)
}

// offersV1Anywhere reports whether it is for anybody.
func (x *Indexer) offersV1Anywhere(img *storage.ImageRow) bool {
	for _, repo := range img.Repos {
		if x.offersV1(img, repo) {
			return true
		}
	}
	return false
}

// Offers reports whether the SOCI v1 index that was made here of an image is to be
// listed for those who pull it from repo. One that came with the image in a bundle,
// and that nothing here could make anew, is wherever nobody withdrew it.
func (x *Indexer) Offers(tx storage.Tx, repo oci.Repo, subject digest.Digest) (bool, error) {
	img, err := tx.Image(subject)
	if errors.Is(err, storage.ErrNotFound) {
		return true, nil
	}
	if err != nil || img.WithdrawnFrom(repo) {
		return false, err
	}
	if x.opt.Disabled || x.offersV1(&img, repo) {
		return true, nil
	}
	for i := range img.Layers {
		if waits, err := waitsForLayer(tx, &img, img.Layers[i].Descriptor.Digest); waits || err != nil {
			return waits, err
		}
	}
	return false, nil
}
