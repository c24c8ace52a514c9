package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/web"
)

// rules are those of cfg, as the indexer takes them. cfg was checked.
func rules(cfg *Config) []indexer.Rule {
	var out []indexer.Rule
	for _, r := range cfg.Index.Rules {
		rule := indexer.Rule{
			Repositories: r.Repositories, Exclude: r.Exclude,
			MinLayerSize: int64(r.MinLayerSize), MinImageSize: int64(r.MinImageSize), SpanSize: int64(r.SpanSize),
			Publish: r.Publish, V2At: r.V2At, Priority: r.Priority, PublishUpstream: r.PublishUpstream,
		}
		for _, s := range r.Platforms {
			if p, err := indexer.ParsePlatform(s); err == nil {
				rule.Platforms = append(rule.Platforms, p)
			}
		}
		out = append(out, rule)
	}
	return out
}

// Below minSpan a zTOC outgrows its layer; above maxSpan a read of one byte
// fetches too much to be called lazy.
const (
	minSpan = Bytes(web.MinSpanSize)
	maxSpan = Bytes(web.MaxSpanSize)
)

// maxPriority is far more than anybody has kinds of images.
const maxPriority = 1_000_000

func (c *Config) checkRules(bad, doubts *findings) {
	for i, r := range c.Index.Rules {
		path := fmt.Sprintf("index.rules[%d]", i)
		if len(r.Repositories) == 0 {
			bad.add(c.origin(path+".repositories"), "%s.repositories: matches nothing; write [\"**\"] for all", path)
		}
		c.checkTagPatterns(path+".repositories", r.Repositories, bad, doubts)
		c.checkTagPatterns(path+".exclude", r.Exclude, bad, doubts)
		if r.SpanSize < minSpan || r.SpanSize > maxSpan {
			bad.add(c.origin(path+".span_size"), "%s.span_size: want %s to %s, got %s", path, minSpan, maxSpan, r.SpanSize)
		}
		for j, p := range r.Platforms {
			if name, err := indexer.ParsePlatform(p); err != nil || name == "" {
				bad.add(c.origin(fmt.Sprintf("%s.platforms[%d]", path, j)), "%s.platforms: %q is not a platform; write linux/amd64 or linux/arm/v7", path, p)
			}
		}
		c.checkV2(path, &c.Index.Rules[i], bad, doubts)
		c.checkPublishing(path, i, bad, doubts)
		if r.Priority < -maxPriority || r.Priority > maxPriority {
			bad.add(c.origin(path+".priority"), "%s.priority: want %d to %d, got %d", path, -maxPriority, maxPriority, r.Priority)
		}
		c.checkHidden(path, i, doubts)
	}
}

// checkV2 has who serves other digests at tags say that they know it.
func (c *Config) checkV2(path string, r *IndexRule, bad, doubts *findings) {
	v2 := r.Publish == indexer.PublishBoth || r.Publish == indexer.PublishV2
	switch {
	case r.V2At == indexer.V2AtTag && !v2:
		doubts.add(c.origin(path+".v2_at"), "%s.v2_at: has no effect with publish: %s", path, r.Publish)
	case r.V2At == indexer.V2AtTag && !r.AcknowledgeUnsigned:
		bad.add(c.origin(path+".v2_at"), "%s.v2_at: at the tag itself clients get a digest that no signature of the image covers; add acknowledge_unsigned: true to the rule, or write suffix", path)
	case r.AcknowledgeUnsigned && r.V2At != indexer.V2AtTag:
		doubts.add(c.origin(path+".acknowledge_unsigned"), "%s.acknowledge_unsigned: has no effect without v2_at: tag", path)
	}
}

// checkPublishing finds a rule that has pushed what it does not make.
func (c *Config) checkPublishing(path string, number int, bad, doubts *findings) {
	r := &c.Index.Rules[number]
	at := c.origin(path + ".publish_upstream")
	lacks := func(form string) bool { return r.Publish != indexer.PublishBoth && r.Publish != form }
	switch push := r.PublishUpstream; {
	case push == "false":
		return
	case r.Publish == indexer.PublishNone:
		bad.add(at, "%s.publish_upstream: nothing is published with publish: none", path)
	case push == indexer.PublishV1 && lacks(indexer.PublishV1), push == indexer.PublishV2 && lacks(indexer.PublishV2), push == indexer.PublishBoth && r.Publish != indexer.PublishBoth:
		bad.add(at, "%s.publish_upstream: %s is not made with publish: %s; write true for what is", path, push, r.Publish)
	}
	if c.doubtPublishing(path, number, doubts) {
		return
	}
	for _, u := range c.Upstreams {
		_, _, secret := u.Credentials()
		if secret || u.ClientCertFile != "" || len(u.Headers) > 0 || strings.HasPrefix(u.URL, "http://") { // a registry of one's own
			return
		}
	}
	doubts.add(at, "%s.publish_upstream: no upstream has credentials, and few take pushes from everybody", path)
}

// firstCatchAll is the number of the first rule that matches every image; -1
// where none does.
func (c *Config) firstCatchAll() int {
	return slices.IndexFunc(c.Index.Rules, func(r IndexRule) bool {
		return len(r.Exclude) == 0 && (slices.Contains(r.Repositories, "**") || slices.Contains(r.Repositories, "**:*"))
	})
}

var (
	patternGrammar    = regexp.MustCompile(`^([a-z0-9._*-]+/)*[a-z0-9._*-]+$`)
	tagPatternGrammar = regexp.MustCompile(`^[A-Za-z0-9._*-]+$`)
)

// checkPatterns looks at patterns of repositories.
func (c *Config) checkPatterns(path string, patterns []string, bad, doubts *findings) {
	for i, p := range patterns {
		c.checkPattern(path, c.origin(fmt.Sprintf("%s[%d]", path, i)), p, p, "docker.io/library/*, ghcr.io/**", bad, doubts)
	}
}

// checkTagPatterns looks at patterns that may say something of the tag, too.
func (c *Config) checkTagPatterns(path string, patterns []string, bad, doubts *findings) {
	for i, p := range patterns {
		name, tag, tagged := strings.Cut(p, ":")
		if tagged && !tagPatternGrammar.MatchString(tag) {
			name = "" // which is no pattern
		}
		c.checkPattern(path, c.origin(fmt.Sprintf("%s[%d]", path, i)), name, p, "docker.io/library/*, ghcr.io/**, redis:7*", bad, doubts)
	}
}

func (c *Config) checkPattern(path string, at origin, name, whole, examples string, bad, doubts *findings) {
	first, _, slash := strings.Cut(name, "/")
	if !slash && name != "**" { // as docker pull reads it
		first = dockerHub
	}
	switch {
	case !patternGrammar.MatchString(name) || slices.ContainsFunc(strings.Split(name, "/"), tooManyStars):
		bad.add(at, "%s: %q is not a pattern; write %s or **", path, whole, examples)
	case !strings.Contains(first, "*") && c.Upstreams[first] == nil && c.Hosted[first] == nil:
		names := slices.AppendSeq(slices.Sorted(maps.Keys(c.Upstreams)), maps.Keys(c.Hosted))
		doubts.add(at, "%s: %q matches nothing, because no upstream is named %q%s", path, whole, first, didYouMean(first, names))
	}
}

// tooManyStars reports ** that is not a whole segment.
func tooManyStars(segment string) bool { return strings.Contains(segment, "**") && segment != "**" }
