package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// ruleFor gives the rule by which the layers of an image are indexed, of which that
// of its repository has a number, -1 being none, and says why it is another one.
func (e *explainer) ruleFor(repo oci.Repo, number int, img *storage.ImageRow) (rule *indexer.Rule, instead []string) {
	rs := rules(e.cfg)
	if number >= 0 {
		rule = &rs[number]
	}
	if img == nil { // nobody has seen it
		return rule, nil
	}
	if !slices.Contains(img.Repos, repo) {
		seen := *img
		seen.Repos = append(slices.Clone(img.Repos), repo)
		img = &seen
	}
	built, rule := indexer.Built(rs, img)
	if built >= 0 && built != number {
		var also []string
		for _, r := range img.Repos {
			if r != repo {
				also = append(also, r.String())
			}
		}
		instead = append(instead, fmt.Sprintf("the same manifest is in %s, too, and its layers are indexed once, by index.rules[%d] (%s), the first that publishes an index of it",
			strings.Join(also, ", "), built, e.cfg.origin(fmt.Sprintf("index.rules[%d]", built))))
	}
	if a := img.Asked; a != nil {
		instead = append(instead, askedText(a, repo, number >= 0))
	}
	if img.WithdrawnFrom(repo) {
		instead = append(instead, "withdrawn with sociable index rm: no index of it is offered in "+repo.String()+" until sociable index create asks for one")
	}
	return rule, instead
}

func askedText(a *storage.Asked, repo oci.Repo, ruled bool) string {
	s := "asked for with sociable index create"
	switch in := a.In(repo); {
	case in && ruled:
		s += ", which goes before the rule: any platform, any size of the image"
	case in:
		s += ", which needs no rule: any platform, any size of the image"
	case ruled:
		s += " in another repository, which goes before the rule for the layers"
	default:
		s += " in another repository, for which its layers are indexed"
	}
	if a.SpanSize != 0 {
		s += ", spans of " + Bytes(a.SpanSize).String()
	}
	if a.MinLayerSize != nil {
		s += ", layers from " + Bytes(*a.MinLayerSize).String()
	}
	if a.SpanSize != 0 || a.MinLayerSize != nil {
		s += "; sociable index create without sizes drops them"
	}
	return s
}
