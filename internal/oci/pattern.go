package oci

import "strings"

// MatchAny reports whether one of patterns matches repo.
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
func MatchAny(patterns []string, repo Repo) bool {
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
		if len(segs) == 0 || !MatchWord(pat[0], segs[0]) {
			return false
		}
		pat, segs = pat[1:], segs[1:]
	}
	return len(segs) == 0
}

// MatchWord matches s against a pattern in which "*" is any run of
// characters. Taking the leftmost place for each middle part is enough.
func MatchWord(pat, s string) bool {
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
