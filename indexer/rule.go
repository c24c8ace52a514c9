package indexer

import "github.com/sociable/sociable/internal/oci"

// DefaultSpanSize is the span size of a Rule that names none: that of the
// official tool, so that its zTOCs and ours are the same.
const DefaultSpanSize = 4 << 20

// What a Rule does with a finished index.
const (
	PublishV1   = "v1"   // listed as a referrer of the image manifest; the default
	PublishNone = "none" // zTOCs are built, for ranges out of spans, but no index is listed
)

// Rule says how the images of some repositories are indexed.
//
// Patterns are those of oci.MatchAny.
type Rule struct {
	Repositories []string // patterns; the rule applies where one of them matches
	Exclude      []string // patterns; and none of these
	MinLayerSize int64    // compressed bytes; a layer below it is skipped. 0: no layer is too small
	SpanSize     int64    // uncompressed bytes a span; 0: DefaultSpanSize
	Publish      string   // PublishV1 or PublishNone; "": PublishV1
}

// Matches reports whether r applies to the images of repo.
func (r *Rule) Matches(repo oci.Repo) bool {
	return oci.MatchAny(r.Repositories, repo) && !oci.MatchAny(r.Exclude, repo)
}

func (r *Rule) spanSize() int64 {
	if r.SpanSize == 0 {
		return DefaultSpanSize
	}
	return r.SpanSize
}

// publishes reports whether r, which may be nil, has indexes listed.
func (r *Rule) publishes() bool { return r != nil && r.Publish != PublishNone }

// ruleFor gives the first rule that applies to the first of repos that has
// one; nil when none does. Repositories are in the order in which they were
// seen, so another one that turns up later changes no earlier decision.
func ruleFor(rules []Rule, repos []oci.Repo) *Rule {
	for _, repo := range repos {
		for i := range rules {
			if rules[i].Matches(repo) {
				return &rules[i]
			}
		}
	}
	return nil
}
