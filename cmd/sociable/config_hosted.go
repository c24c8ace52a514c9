package main

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/proxy"
)

// HostedConfig is one namespace of images that are pushed here and live here.
type HostedConfig struct {
	Quota     Bytes    `yaml:"quota"`     // of all of its repositories together; 0: no limit
	ReadOnly  bool     `yaml:"read_only"` // no push and no deletion
	Immutable []string `yaml:"immutable"` // tags that are neither moved nor deleted: see tagPattern
	Sparse    bool     `yaml:"sparse"`    // take manifests of which a part is not here
	Access    string   `yaml:"access" enum:",open"`
}

// localNamespace is hosted where nothing is configured.
const localNamespace = "local"

const hostedFlag = "--hosted"

// hosted decodes the mapping of names, which replaces the default.
func (d *decoder) hosted(n *yaml.Node, path string) {
	d.cfg.Hosted = map[string]*HostedConfig{}
	d.pairs(n, path, func(key, val *yaml.Node) {
		h := &HostedConfig{}
		d.cfg.Hosted[key.Value] = h
		d.value(val, reflect.ValueOf(h).Elem(), join(path, key.Value), "")
		d.cfg.origins[join(path, key.Value)] = d.at(key)
	})
}

// addHosted takes the arguments of --hosted. They replace the default.
func (c *Config) addHosted(names []string) {
	if _, given := c.origins["hosted"]; !given && len(names) > 0 {
		c.Hosted = map[string]*HostedConfig{}
	}
	for _, name := range names {
		if c.Hosted[name] == nil {
			c.Hosted[name] = &HostedConfig{}
			c.origins["hosted."+name] = origin{source: hostedFlag}
		}
	}
}

// completeHosted takes the default namespace away where it would be in the way
// of what is configured.
func (c *Config) completeHosted() {
	if c.hostedGiven(localNamespace) || c.Hosted[localNamespace] == nil {
		return
	}
	taken := c.Upstreams[localNamespace] != nil
	for _, u := range c.Upstreams {
		taken = taken || slices.Contains(u.Aliases, localNamespace)
	}
	if taken {
		delete(c.Hosted, localNamespace)
	}
}

// hostedGiven reports whether a namespace is configured, rather than a default.
func (c *Config) hostedGiven(name string) bool {
	for path := range c.origins {
		if path == "hosted" || path == "hosted."+name || strings.HasPrefix(path, "hosted."+name+".") {
			return true
		}
	}
	return false
}

// openHere reports whether whoever reaches the listener may push: that is this
// machine alone, and nothing is said about who may do what.
func (c *Config) openHere() bool {
	return c.onLoopback && !c.logins() && len(c.Auth.Rules) == 0
}

// openPush reports whether anyone who reaches the listener may push to the
// namespace, and delete there.
func (c *Config) openPush(name string) bool { return c.Hosted[name].Access == "open" || c.openHere() }

// pushRules are what follows for pushes where the configuration has no rule.
func (c *Config) pushRules() []access.Rule {
	all := []string{access.Anonymous}
	var rules []access.Rule
	for _, name := range slices.Sorted(maps.Keys(c.Hosted)) {
		if c.openPush(name) {
			rules = append(rules, access.Rule{Repositories: []string{name + "/**"}, Pull: all, Push: all, Delete: all})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		if c.Upstreams[name].Push == "allow" && c.openHere() && c.mode(name) == access.Open {
			rules = append(rules, access.Rule{Repositories: []string{name + "/**"}, Pull: all, Push: all})
		}
	}
	return rules
}

// pushRule reports whether a rule lets somebody push to the namespace.
func (c *Config) pushRule(name string) bool {
	return slices.ContainsFunc(c.Auth.Rules, func(r AuthRule) bool {
		return len(r.Push) > 0 && slices.ContainsFunc(r.Repositories, func(p string) bool {
			first, _, _ := strings.Cut(p, "/")
			return matchStars(first, name)
		})
	})
}

func (c *Config) checkHosted(bad, doubts *findings) {
	names := slices.Sorted(maps.Keys(c.Hosted))
	for _, name := range names {
		h, at := c.Hosted[name], "hosted."+name
		switch {
		case !nameGrammar.MatchString(name):
			bad.add(c.origin(at), "hosted: %q can't stand first in a repository's name; use lower-case letters, digits, and single . _ or - between them", name)
		case c.Upstreams[name] != nil:
			bad.add(c.origin(at), "%s: is taken by %s", at, c.where("upstreams."+name))
		case c.hostedGiven(name) && !h.ReadOnly && !c.openPush(name) && !c.pushRule(name):
			doubts.add(c.origin(at), "%s: nobody may push to it; add a rule with push for %q to auth.rules, or, if everybody may who reaches %s, %s",
				at, name+"/**", c.Listen, c.howToOpen(at))
		}
		if name != localNamespace { // the documented one
			c.doubtShadow(name, at, doubts)
		}
		for i, p := range h.Immutable {
			if _, err := parseTagPattern(p); err != nil {
				at := fmt.Sprintf("%s.immutable[%d]", at, i)
				bad.add(c.origin(at), "%s: %v", at, err)
			}
		}
	}
}

// checkPushThrough warns of pushes that are allowed to an upstream and to nobody.
func (c *Config) checkPushThrough(doubts *findings) {
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		at := "upstreams." + name + ".push"
		if c.Upstreams[name].Push == "allow" && (c.Offline || c.Upstreams[name].Offline) {
			doubts.add(c.origin(at), "%s: nothing is pushed to an upstream that is offline by configuration", at)
		}
		mode := c.mode(name)
		open := !c.guarded() || mode == access.Passthrough || c.openHere() && mode == access.Open
		if c.Upstreams[name].Push == "allow" && !open && !c.pushRule(name) {
			doubts.add(c.origin(at), "%s: nobody may push to it; add a rule with push for %q to auth.rules", at, name+"/**")
		}
	}
}

// tagPattern says which tags of which repositories are meant: app:v*,
// team/**:release-*, **:v*.
type tagPattern struct{ repository, tag string }

var immutableGrammar = regexp.MustCompile(`^([a-z0-9._*-]+/)*[a-z0-9._*-]+:[a-zA-Z0-9._*-]+$`)

func parseTagPattern(s string) (tagPattern, error) {
	repository, tag, _ := strings.Cut(s, ":")
	if !immutableGrammar.MatchString(s) || slices.ContainsFunc(strings.Split(repository, "/"), tooManyStars) {
		return tagPattern{}, fmt.Errorf("%q is not a pattern of tags; write app:v*, team/*:v* or **:v*", s)
	}
	return tagPattern{repository, tag}, nil
}

func (p tagPattern) matches(repository, tag string) bool {
	return matchPath(strings.Split(p.repository, "/"), strings.Split(repository, "/")) && matchStars(p.tag, tag)
}

// matchPath tries, for **, every number of segments.
func matchPath(pattern, segments []string) bool {
	if len(pattern) == 0 {
		return len(segments) == 0
	}
	if pattern[0] == "**" {
		for i := range len(segments) + 1 {
			if matchPath(pattern[1:], segments[i:]) {
				return true
			}
		}
		return false
	}
	return len(segments) > 0 && matchStars(pattern[0], segments[0]) && matchPath(pattern[1:], segments[1:])
}

// matchStars matches text without a slash, in which * is any run.
func matchStars(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// buildHosted makes the namespaces that are pushed to.
func buildHosted(cfg *Config) []*proxy.Upstream {
	var ups []*proxy.Upstream
	for _, name := range slices.Sorted(maps.Keys(cfg.Hosted)) {
		h := cfg.Hosted[name]
		var patterns []tagPattern
		for _, s := range h.Immutable {
			if p, err := parseTagPattern(s); err == nil { // checked when the configuration was
				patterns = append(patterns, p)
			}
		}
		ups = append(ups, &proxy.Upstream{Name: name, Hosted: true, Hosting: proxy.Hosting{
			Quota: int64(h.Quota), ReadOnly: h.ReadOnly, Sparse: h.Sparse,
			Immutable: func(repository, tag string) bool {
				return slices.ContainsFunc(patterns, func(p tagPattern) bool { return p.matches(repository, tag) })
			},
		}})
	}
	return ups
}
