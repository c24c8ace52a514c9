package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/oci"
)

// whyNoPush says why nothing that is made here is pushed to what is named so, whatever
// a rule says; "" where it is.
func (c *Config) whyNoPush(name string) string {
	u := c.Upstreams[name]
	switch {
	case u == nil:
		return "what is in " + name + " was pushed here, and has no other registry"
	case c.Offline || u.Offline:
		return "with offline: true " + name + " is never asked"
	case c.mode(name) == access.Passthrough:
		return "with access: passthrough " + name + " is asked in the name of whoever pulls, and there are no credentials of ours to push with"
	}
	return ""
}

// doubtPublishing finds upstreams to which the rule of a number is to push, and which
// it has no credentials for.
func (c *Config) doubtPublishing(path string, number int, doubts *findings) (found bool) {
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		if c.mode(name) != access.Passthrough || !c.Index.Rules[number].reaches(name) || slices.ContainsFunc(c.Index.Rules[:number], func(r IndexRule) bool { return r.takesAll(name) }) {
			continue
		}
		found = true
		doubts.add(c.origin(path+".publish_upstream"), "%s.publish_upstream: nothing is pushed to upstreams.%s: %s", path, name, c.whyNoPush(name))
	}
	return found
}

// reaches reports whether a rule may apply to an image of an upstream.
func (r *IndexRule) reaches(upstream string) bool {
	if slices.ContainsFunc(r.Exclude, func(p string) bool { return isAllOf(p, upstream) }) {
		return false
	}
	return slices.ContainsFunc(r.Repositories, func(p string) bool {
		p, _, _ = strings.Cut(p, ":")
		first, _, slash := strings.Cut(p, "/")
		if !slash && first != "**" { // as docker pull reads it
			first = dockerHub
		}
		return first == "**" || oci.MatchWord(first, upstream)
	})
}

// takesAll reports whether a rule leaves nothing of an upstream to those after it.
func (r *IndexRule) takesAll(upstream string) bool {
	return len(r.Exclude) == 0 && slices.ContainsFunc(r.Repositories, func(p string) bool { return isAllOf(p, upstream) })
}

func isAllOf(pattern, upstream string) bool {
	pattern = strings.TrimSuffix(pattern, ":*")
	return pattern == "**" || pattern == upstream+"/**"
}
