package main

import (
	"fmt"
	"regexp"
	"strings"
)

// rowNames are those of each suite's rows, as the table has them.
var rowNames = map[string][]string{
	"cold-pull":       {"cold full pull incl. manifest, indexing on", "… first byte", "… its index listed, after the last byte"},
	"cold-head":       {"cold HEAD of a blob"},
	"cold-range":      {"cold 4 MiB range incl. manifest, no index"},
	"random-ranges":   {"64 random 64 KiB cold ranges, 4 at once"},
	"span":            {"a lazy mount's probes (`bytes=0-1`, header) of an indexed layer", "cold range of one span, indexed"},
	"small-layers":    {"image of 40 small layers, 4 at once"},
	"crowd-pull":      {"16 cold pulls of one blob at once"},
	"distinct-ranges": {"64 distinct cold 4 MiB ranges at once"},
	"crowd-range":     {"64 callers of one cold 4 MiB range"},
	"warm-whole":      {"warm full GET, one client", "warm full GET, 4 at once"},
	"warm-ranges":     {"warm 4 MiB ranges, 8 at once", "warm 64 KiB ranges, 8 at once"},
	"warm-manifests":  {"warm tag GET, one client", "warm manifest by digest, 8 at once"},
	"cut":             {"upstream closes at 100 of 300 MiB", "upstream resets at 100 of 300 MiB"},
	"stall":           {"upstream stalls at 100 of 300 MiB"},
	"corrupt":         {"corrupt upstream blob"},
	"leave":           {"client leaves at 1/3, another comes"},
	"open-ended":      {"open-ended range, client leaves after 1 MiB"},
	"silent":          {"silent upstream: cached tag", "silent upstream: cached blob, 64 KiB"},
	"memory":          {"memory: peak of all rows, with 64 transfers at once", "memory after 10000 transfers", "descriptors after them"},
}

// choose gives the suites that word means: a regular expression, or plain words, out
// of their ids or of their rows' names.
func choose(word string) (chosen map[string]bool, err error) {
	match, err := regexp.Compile(word)
	if err != nil {
		return nil, fmt.Errorf("rows: %w", err)
	}
	chosen = map[string]bool{}
	var ids []string
	for _, x := range suites {
		ids = append(ids, x.id)
		for _, name := range append(rowNames[x.id], x.id) {
			chosen[x.id] = chosen[x.id] || match.MatchString(name) || strings.Contains(name, word)
		}
	}
	for _, is := range chosen {
		if is {
			return chosen, nil
		}
	}
	return nil, fmt.Errorf("no row is called %q: give a row's name, as the table has it, or one of %s", word, strings.Join(ids, ", "))
}
