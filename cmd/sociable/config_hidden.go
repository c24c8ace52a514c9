package main

import (
	"slices"
	"strings"
)

// checkHidden doubts a rule of which an earlier one certainly takes all that it
// matches.
func (c *Config) checkHidden(path string, i int, doubts *findings) {
	at := c.origin(path)
	if first := c.firstCatchAll(); first >= 0 && first < i {
		doubts.add(at, "%s: never applies, because index.rules[%d] matches everything before it", path, first)
		return
	}
	rule := &c.Index.Rules[i]
	if len(rule.Repositories) == 0 {
		return
	}
	first := slices.IndexFunc(c.Index.Rules[:i], func(r IndexRule) bool {
		return len(r.Exclude) == 0 && !slices.ContainsFunc(rule.Repositories, func(p string) bool {
			return !slices.ContainsFunc(r.Repositories, func(wide string) bool { return patternCovers(wide, p) })
		})
	})
	if first >= 0 {
		doubts.add(at, "%s: never applies, because index.rules[%d] matches all of its images before it; put it first", path, first)
	}
}

// patternCovers reports that wide matches whatever p does: it is the same, or ends in
// /** where p goes on. It does not find every such pair.
func patternCovers(wide, p string) bool {
	wideName, wideTag, wideTagged := strings.Cut(wide, ":")
	name, tag, tagged := strings.Cut(p, ":")
	if wideTagged && (!tagged || wideTag != "*" && wideTag != tag) {
		return false
	}
	if wideName == name {
		return true
	}
	folder, all := strings.CutSuffix(wideName, "**")
	return all && strings.HasSuffix(folder, "/") && !strings.Contains(folder, "*") && strings.HasPrefix(name, folder)
}
