package main

import (
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// GCConfig is when garbage is collected, and what is garbage.
type GCConfig struct {
	Interval    time.Duration `yaml:"interval"`     // 0: only by sociable gc
	Grace       time.Duration `yaml:"grace"`        // what was pushed or asked for stays so long
	PulledAfter time.Duration `yaml:"pulled_after"` // then what was pulled and not used goes; 0: never
}

// UploadsConfig is about blobs that are being pushed.
type UploadsConfig struct {
	Expire  time.Duration `yaml:"expire"`   // one that nobody goes on with; 0: never
	MaxOpen int           `yaml:"max_open"` // at once, of one caller; 0: any number

	UpstreamBytes Room `yaml:"upstream_bytes"` // of all to one upstream, as a size or a share of storage.max_bytes; 0: any number
}

// RetentionRule says what stays of some hosted repositories.
type RetentionRule struct {
	Repositories []string      `yaml:"repositories"` // as of IndexRule
	KeepLast     int           `yaml:"keep_last"`    // tags, those that were pushed last
	KeepFor      time.Duration `yaml:"keep_for"`     // tags that were pushed so recently
	KeepTags     []string      `yaml:"keep_tags"`    // tags by name
	Untagged     time.Duration `yaml:"untagged"`     // unused manifests without a tag go; 0: they stay
}

func (c *Config) checkRetention(bad, doubts *findings) {
	if c.GC.Grace < time.Minute {
		bad.add(c.origin("gc.grace"), "gc.grace: want at least 1m: what a client has just pushed would go before the manifest that names it comes")
	}
	if c.GC.PulledAfter > 0 && c.GC.PulledAfter < c.GC.Grace {
		bad.add(c.origin("gc.pulled_after"), "gc.pulled_after: want at least gc.grace, %s, or 0s for never", formatDuration(c.GC.Grace))
	}
	if c.Uploads.MaxOpen < 0 {
		bad.add(c.origin("uploads.max_open"), "uploads.max_open: want a number of uploads, or 0 for any number")
	}
	for i, r := range c.Retention {
		at := fmt.Sprintf("retention[%d]", i)
		if len(r.Repositories) == 0 {
			bad.add(c.origin(at), "%s.repositories: matches nothing; write [\"**\"] for all hosted repositories", at)
		}
		for j, p := range r.Repositories {
			if !patternGrammar.MatchString(p) || slices.ContainsFunc(strings.Split(p, "/"), tooManyStars) {
				bad.add(c.origin(fmt.Sprintf("%s.repositories[%d]", at, j)), "%s.repositories: %q is not a pattern; write local/app, local/** or **", at, p)
			} else if first, _, _ := strings.Cut(p, "/"); strings.Contains(p, "/") && !c.hosts(first) {
				bad.add(c.origin(fmt.Sprintf("%s.repositories[%d]", at, j)), "%s.repositories: %q matches no hosted namespace (%s): retention is about what is pushed here; what was pulled goes by gc.pulled_after",
					at, p, strings.Join(slices.Sorted(maps.Keys(c.Hosted)), ", "))
			} else if !strings.Contains(p, "/") && p != "**" {
				bad.add(c.origin(fmt.Sprintf("%s.repositories[%d]", at, j)), "%s.repositories: %q names no namespace; write local/%s", at, p, p)
			}
		}
		for j, p := range r.KeepTags {
			if _, err := path.Match(p, ""); err != nil || p == "" {
				bad.add(c.origin(fmt.Sprintf("%s.keep_tags[%d]", at, j)), "%s.keep_tags: %q is not a pattern; write v*, latest or release-?", at, p)
			}
		}
		if r.KeepLast < 0 {
			bad.add(c.origin(at+".keep_last"), "%s.keep_last: want a number of tags, or 0 for no such rule", at)
		}
		keeps := r.KeepLast != 0 || r.KeepFor != 0 || len(r.KeepTags) != 0
		switch {
		case !keeps && r.Untagged == 0:
			bad.add(c.origin(at), "%s: says nothing; give keep_last, keep_for, keep_tags or untagged", at)
		case keeps && r.Untagged == 0:
			doubts.add(c.origin(at), "%s: takes tags away and frees nothing: the manifests stay without a tag, and count for the quota; add untagged: 168h to have them go a week after they were last used", at)
		}
	}
}

// hosts reports whether the first part of a pattern matches a hosted namespace.
func (c *Config) hosts(first string) bool {
	return first == "**" || slices.ContainsFunc(slices.Collect(maps.Keys(c.Hosted)), func(name string) bool { return matchStars(first, name) })
}

// collectOptions are those of a configuration that was checked.
func collectOptions(cfg *Config, store *storage.Store, log *slog.Logger, reg prometheus.Registerer) storage.CollectOptions {
	o := storage.CollectOptions{
		Store: store, Hosted: slices.Sorted(maps.Keys(cfg.Hosted)), Immutable: immutableTags(cfg),
		Grace: cfg.GC.Grace, Pulled: cfg.GC.PulledAfter, Uploads: cfg.Uploads.Expire, Interval: cfg.GC.Interval,
		Logger: log, Registerer: reg,
	}
	for _, r := range cfg.Retention {
		o.Rules = append(o.Rules, storage.Retention{
			Repositories: r.Repositories, KeepLast: r.KeepLast, KeepFor: r.KeepFor, KeepTags: r.KeepTags, Untagged: r.Untagged,
		})
	}
	return o
}

func immutableTags(cfg *Config) func(oci.Repo, string) bool {
	by := map[string]func(repository, tag string) bool{}
	for _, u := range buildHosted(cfg) {
		by[u.Name] = u.Hosting.Immutable
	}
	return func(repo oci.Repo, tag string) bool {
		immutable := by[repo.Upstream]
		return immutable != nil && immutable(repo.Name, tag)
	}
}
