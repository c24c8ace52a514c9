package indexer

import (
	"strings"

	"github.com/sociable/sociable/internal/oci"
)

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
// A pattern is matched against the canonical repository, upstream and name:
// "docker.io/library/redis". In a pattern "*" is any run of characters within
// one segment, and a segment that is "**" is any number of segments, none
// included. Everything else stands for itself. A pattern of one segment means
// what it means to `docker pull`, an official image of Docker Hub: "redis" is
// "docker.io/library/redis" ("**" alone is every image of every upstream).
//
//	docker.io/library/*     official images of Docker Hub
//	quay.io/**              everything of one upstream
//	**/redis                every repository whose last segment is redis
//	ghcr.io/acme/team-*/**  everything below some name spaces
type Rule struct {
	Repositories []string // patterns; the rule applies where one of them matches
	Exclude      []string // patterns; and none of these
	MinLayerSize int64    // compressed bytes; a layer below it is skipped. 0: no layer is too small
	SpanSize     int64    // uncompressed bytes a span; 0: DefaultSpanSize
	Publish      string   // PublishV1 or PublishNone; "": PublishV1
}

// Matches reports whether r applies to the images of repo.
func (r *Rule) Matches(repo oci.Repo) bool {
	return matchAny(r.Repositories, repo) && !matchAny(r.Exclude, repo)
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

func matchAny(patterns []string, repo oci.Repo) bool {
	segs := strings.Split(repo.String(), "/")
	for _, p := range patterns {
		if !strings.Contains(p, "/") && p != "**" {
			p = "docker.io/library/" + p
		}
		if matchSegments(strings.Split(p, "/"), segs) {
			return true
		}
	}
	return false
}

// matchSegments tries, for each "**", every number of segments. A name has few
// segments, and runs of "**" are one.
func matchSegments(pat, segs []string) bool {
	for len(pat) > 0 {
		if pat[0] == "**" {
			for len(pat) > 0 && pat[0] == "**" {
				pat = pat[1:]
			}
			if len(pat) == 0 {
				return true
			}
			for i := range segs {
				if matchSegments(pat, segs[i:]) {
					return true
				}
			}
			return false
		}
		if len(segs) == 0 || !matchSegment(pat[0], segs[0]) {
			return false
		}
		pat, segs = pat[1:], segs[1:]
	}
	return len(segs) == 0
}

// matchSegment matches s against a pattern in which "*" is any run of
// characters. Taking the leftmost place for each middle part is enough.
func matchSegment(pat, s string) bool {
	parts := strings.Split(pat, "*")
	if len(parts) == 1 {
		return pat == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(s, part)
		if !ok {
			return false
		}
		s = after
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
