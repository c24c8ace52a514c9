package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/sociable/sociable/internal/access"
)

// checkOffline doubts upstreams that decide who may pull and are never asked.
func (c *Config) checkOffline(doubts *findings) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		if c.mode(name) == access.Passthrough && (c.Offline || c.Upstreams[name].Offline) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	at := c.origin("upstreams." + names[0] + ".access")
	if c.Upstreams[names[0]].Access == "" {
		at = c.origin("access")
	}
	doubts.add(at, "access: with passthrough the upstream says who may pull, and with offline: true it is never asked: "+
		"nobody will pull from %s; write access: open, or leave access out and say who may with auth.rules", strings.Join(names, ", "))
}
