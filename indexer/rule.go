package indexer

import (
	"strings"

	"github.com/sociable/sociable/internal/oci"
)

// DefaultSpanSize is the span size of a Rule that names none: that of the
// official tool, so that its zTOCs and ours are the same.
const DefaultSpanSize = 4 << 20

// What a Rule does with finished zTOCs.
const (
	PublishBoth = "both" // v1 and v2; the default
	PublishV1   = "v1"   // an index listed as a referrer of the image manifest
	PublishV2   = "v2"   // a converted image index that carries the indexes
	PublishNone = "none" // neither: zTOCs are built for ranges out of spans alone
)

// PublishUpstreamAll is what a Rule pushes that pushes all that it publishes;
// PublishBoth says the same.
const PublishUpstreamAll = "true"

// Where a Rule has the converted image index served.
const (
	V2AtSuffix = "suffix" // at TAG-soci; the default
	V2AtTag    = "tag"    // at TAG itself
)

// ConvertedSuffix is what the tag of a converted image ends in.
const ConvertedSuffix = "-soci"

// Converts reports whether what tag leads to may be converted for its sake: not where
// tag is that of a converted image already, whatever it leads to.
func Converts(tag string) bool { return !strings.HasSuffix(tag, ConvertedSuffix) }

// Rule says how some images are indexed.
//
// Patterns are those of oci.MatchAny, and behind a colon one of tags: the image
// then needs a tag, known here, that matches it, except that ":*" is no
// condition. "redis:7*" is Redis 7 in all its versions, "**:v*" everything with a
// tag that begins with v.
type Rule struct {
	Repositories []string // patterns; the rule applies where one of them matches
	Exclude      []string // patterns; and none of these
	Platforms    []string // as ParsePlatform gives them; of an image index only these are indexed. None: those that are pulled
	MinLayerSize int64    // compressed bytes; a layer below it is skipped. 0: no layer is too small
	MinImageSize int64    // compressed bytes of all layers of a platform's image; below it all are skipped
	SpanSize     int64    // uncompressed bytes a span; 0: DefaultSpanSize
	Publish      string   // PublishBoth, ...; "": PublishBoth
	V2At         string   // V2AtSuffix or V2AtTag; "": V2AtSuffix
	// PublishUpstream has what is published pushed to the image's upstream, too:
	// PublishUpstreamAll, or only PublishV1 or PublishV2 of it. "": none of it.
	PublishUpstream string
	Priority        int // work for the rule of the highest is done first
}

// Matches reports whether r applies to the image at a tag of repo, "" being an
// image without one.
func (r *Rule) Matches(repo oci.Repo, tag string) bool {
	return matchAny(r.Repositories, repo, tag) && !matchAny(r.Exclude, repo, tag)
}

func (r *Rule) spanSize() int64 {
	if r.SpanSize == 0 {
		return DefaultSpanSize
	}
	return r.SpanSize
}

// listsV1 and converts report what becomes of finished zTOCs; r may be nil.
func (r *Rule) listsV1() bool { return r != nil && r.Publish != PublishNone && r.Publish != PublishV2 }

func (r *Rule) converts() bool { return r != nil && r.Publish != PublishNone && r.Publish != PublishV1 }

// pushesV1 and pushesV2 report what is pushed to upstreams; r may be nil.
func (r *Rule) pushesV1() bool { return r.listsV1() && r.pushes(PublishV1) }

func (r *Rule) pushesV2() bool { return r.converts() && r.pushes(PublishV2) }

// Publishes reports which forms of an index are offered; r may be nil.
func (r *Rule) Publishes() (v1, v2 bool) { return r.listsV1(), r.converts() }

// Pushes reports which forms of an index are pushed to the upstream of an image; r
// may be nil.
func (r *Rule) Pushes() (v1, v2 bool) { return r.pushesV1(), r.pushesV2() }

func (r *Rule) pushes(form string) bool {
	return r.PublishUpstream == PublishUpstreamAll || r.PublishUpstream == PublishBoth || r.PublishUpstream == form
}

// named is a repository and the tags of an image in it, in the order in which
// they were seen.
type named struct {
	repo oci.Repo
	tags []string
}

// ruleFor gives the number of the first rule that applies to n, by one of its
// tags; -1 when none does.
func ruleFor(rules []Rule, n named) int {
	tags := n.tags
	if len(tags) == 0 {
		tags = []string{""}
	}
	for i := range rules {
		for _, tag := range tags {
			if rules[i].Matches(n.repo, tag) {
				return i
			}
		}
	}
	return -1
}

func matchAny(patterns []string, repo oci.Repo, tag string) bool {
	for _, p := range patterns {
		p, tags, tagged := strings.Cut(p, ":")
		if tagged && tags != "*" && (tag == "" || !oci.MatchWord(tags, tag)) {
			continue
		}
		if oci.MatchAny([]string{p}, repo) {
			return true
		}
	}
	return false
}
