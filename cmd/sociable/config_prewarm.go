package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/prewarm"
)

// PrewarmConfig is which images are followed.
type PrewarmConfig struct {
	Parallel   int          `yaml:"parallel"`    // images at once
	PauseAbove int          `yaml:"pause_above"` // nothing is begun while more requests of clients are answered
	Jobs       []PrewarmJob `yaml:"jobs"`
}

// PrewarmJob is images that are looked at together.
type PrewarmJob struct {
	Images    []string `yaml:"images"`    // references; * and ? in the tag
	Platforms []string `yaml:"platforms"` // none: all
	Schedule  string   `yaml:"schedule"`  // as crontab(5) has it, or @hourly, @every 10m
}

func defaultPrewarm() PrewarmConfig { return PrewarmConfig{Parallel: 2, PauseAbove: 16} }

func (c *Config) checkPrewarm(bad, doubts *findings) {
	if c.Offline && len(c.Prewarm.Jobs) > 0 {
		doubts.add(c.origin("prewarm.jobs"), "prewarm.jobs: nothing can be followed with offline: true")
	}
	if c.Prewarm.Parallel < 1 {
		bad.add(c.origin("prewarm.parallel"), "prewarm.parallel: want at least 1; to follow no image name none")
	}
	if c.Prewarm.PauseAbove < 0 {
		bad.add(c.origin("prewarm.pause_above"), "prewarm.pause_above: want a number of requests")
	}
	for i, j := range c.Prewarm.Jobs {
		at := fmt.Sprintf("prewarm.jobs[%d]", i)
		if len(j.Images) == 0 {
			bad.add(c.origin(at+".images"), "%s.images: names no image", at)
		}
		for k, word := range j.Images {
			tag := word[strings.LastIndexByte(word, '/')+1:]
			_, pattern, _ := strings.Cut(tag, ":")
			name, _, _ := strings.Cut(word, "*")
			if host, _, ok := strings.Cut(word, "/"); ok && strings.ContainsAny(host, ".:") && !c.names(host) {
				doubts.add(c.origin(fmt.Sprintf("%s.images[%d]", at, k)), "%s.images: no upstream %q is configured: %s is not followed", at, host, word)
			}
			if _, err := path.Match(pattern, ""); err != nil || word == "" || strings.ContainsAny(word, " \t") ||
				strings.Contains(name, "*") || strings.ContainsAny(strings.TrimSuffix(word, ":"+pattern), "*?[") {
				bad.add(c.origin(fmt.Sprintf("%s.images[%d]", at, k)), "%s.images: %q is not an image; write redis:7, or ghcr.io/acme/app:1.* for tags of a form", at, word)
			}
		}
		for k, word := range j.Platforms {
			if _, err := oci.ParsePlatform(word); err != nil {
				bad.add(c.origin(fmt.Sprintf("%s.platforms[%d]", at, k)), "%s.platforms: %v", at, err)
			}
		}
		if err := checkSchedule(j.Schedule); err != nil {
			bad.add(c.origin(at+".schedule"), "%s.schedule: %q is not a schedule: %v; write \"*/15 * * * *\", @hourly or @every 10m", at, j.Schedule, err)
		}
	}
}

// names reports whether the first segment of a name means an upstream.
func (c *Config) names(host string) bool {
	for name, u := range c.Upstreams {
		if name == host || slices.Contains(u.Aliases, host) {
			return true
		}
	}
	_, hosted := c.Hosted[host]
	return hosted
}

// checkSchedule reports what is no schedule, and one without a pause.
func checkSchedule(s string) error {
	if _, err := cron.ParseStandard(s); err != nil {
		return err
	}
	if d, every := strings.CutPrefix(strings.TrimSpace(s), "@every "); every {
		if d, err := time.ParseDuration(d); err != nil || d < time.Second {
			return errors.New("want at least a second between")
		}
	}
	return nil
}

// buildPrewarm makes what follows images; the configuration was checked.
func buildPrewarm(cfg *Config, images prewarm.Images, log *slog.Logger, reg prometheus.Registerer) (*prewarm.Prewarmer, error) {
	o := prewarm.Options{Images: images, Parallel: cfg.Prewarm.Parallel, PauseAbove: cfg.Prewarm.PauseAbove, Logger: log, Registerer: reg}
	for _, j := range cfg.Prewarm.Jobs {
		s, err := cron.ParseStandard(j.Schedule)
		if err != nil {
			return nil, fmt.Errorf("prewarm: %w", err)
		}
		ps, err := oci.ParsePlatforms(j.Platforms)
		if err != nil {
			return nil, fmt.Errorf("prewarm: %w", err)
		}
		o.Jobs = append(o.Jobs, prewarm.Job{Images: j.Images, Platforms: ps, Schedule: s})
	}
	return prewarm.New(o), nil
}
