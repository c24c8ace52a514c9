package web

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Named is an image as an operator named it.
type Named struct {
	Reference string        // canonical: docker.io/library/redis:7
	Repo      oci.Repo      // zero where a digest alone was given
	Tag       string        // "" where it was named by digest
	Digest    digest.Digest // of its manifest or index
}

// errAmbiguous: a name means several images.
var errAmbiguous = errors.New("name its upstream too")

// spelling is a name before it is known which upstream it means.
type spelling struct {
	names  []string // as given, and without the proxy's own address
	host   bool     // that may be an upstream's name as well
	tag    string
	digest digest.Digest
}

// spell reads the spellings that lead to an image through the proxy: with or
// without the proxy's address, upstream, library/ and tag.
func spell(word string) (s spelling, err error) {
	name, d, byDigest := strings.Cut(word, "@")
	if byDigest {
		if s.digest, err = oci.ParseDigest(d); err != nil {
			return s, err
		}
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, s.tag = name[:i], name[i+1:]
		if _, err := oci.ParseReference(s.tag); err != nil {
			return s, err
		}
	}
	if s.tag == "" {
		s.tag = "latest"
	}
	if s.digest != "" {
		s.tag = "" // the digest says it all
	}
	s.names = append(s.names, name)
	first, rest, ok := strings.Cut(name, "/")
	if ok && first != "" && first[0] != '.' && (strings.ContainsAny(first, ".:") || first == "localhost") {
		s.names = append(s.names, rest)
		s.host = first != "localhost" && !strings.Contains(first, ":")
	}
	for _, part := range strings.Split(s.names[len(s.names)-1], "/") {
		if err := oci.CheckName(part); err != nil {
			return s, err
		}
	}
	return s, nil
}

// distance is how much s leaves out of repo's name, the least being nearest; ok
// is false where it means another.
func (s spelling) distance(repo oci.Repo) (n int, ok bool) {
	n = 3
	for i, name := range s.names {
		upstream, rest, _ := strings.Cut(name, "/")
		switch {
		case name == repo.String():
			n = min(n, 0)
		case upstream == repo.Upstream && "library/"+rest == repo.Name:
			n = min(n, 1)
		case i > 0 && s.host: // ghcr.io/redis is not docker.io's
		case name == repo.Name, "library/"+name == repo.Name:
			n = min(n, 2)
		}
	}
	return n, n < 3
}

// Resolve finds the image that word means: a reference in any of its spellings,
// or the digest of a manifest. ErrNotFound when none is known here by that name.
func Resolve(tx storage.Tx, word string) (Named, error) {
	if d, err := oci.ParseDigest(word); err == nil {
		return resolveDigest(tx, spelling{digest: d}, word)
	}
	s, err := spell(word)
	if err != nil {
		return Named{}, err
	}
	if s.digest != "" {
		return resolveDigest(tx, s, word)
	}
	var found choice
	err = tx.TagRepos(func(repo oci.Repo) error {
		n, ok := s.distance(repo)
		if !ok {
			return nil
		}
		row, err := tx.Tag(repo, s.tag)
		if err == nil {
			found.offer(n, Named{repo.String() + ":" + s.tag, repo, s.tag, row.Digest})
		}
		return ignoreNotFound(err)
	})
	if err != nil {
		return Named{}, err
	}
	if found.n == 0 {
		switch {
		case s.names[0] == digest.SHA256.String():
			return Named{}, isNotHere("no image here is meant by %.300q: a digest is sha256: and 64 digits", word)
		case !strings.HasSuffix(word, ":"+s.tag):
			return Named{}, isNotHere("no image here is meant by %.300q, with the tag %s", word, s.tag)
		}
	}
	return found.made(word)
}

// resolveDigest finds the repository that has a digest; without a name in s, any.
func resolveDigest(tx storage.Tx, s spelling, word string) (Named, error) {
	var found choice
	err := tx.RightRepos(s.digest, func(repo oci.Repo) error {
		n, ok := s.distance(repo)
		if ok || s.names == nil && found.n == 0 {
			found.offer(n, Named{Reference: repo.String() + "@" + s.digest.String(), Repo: repo, Digest: s.digest})
		}
		return nil
	})
	if err != nil {
		return Named{}, err
	}
	return found.made(word)
}

// choice is the nearest of what was offered.
type choice struct {
	n        int // how many were as near as that
	distance int
	first    Named
	other    Named
}

func (c *choice) offer(distance int, x Named) {
	switch {
	case c.n == 0 || distance < c.distance:
		c.n, c.distance, c.first = 1, distance, x
	case distance == c.distance:
		c.n, c.other = c.n+1, x
	}
}

func (c *choice) made(word string) (Named, error) {
	switch c.n {
	case 0:
		return Named{}, isNotHere("no image here is meant by %.300q", word)
	case 1:
		return c.first, nil
	}
	return Named{}, fmt.Errorf("%q could mean %s or %s: %w", word, c.first.Reference, c.other.Reference, errAmbiguous)
}

// means reports whether word is a spelling of the canonical reference.
func means(word, reference string) bool {
	if word == reference {
		return true
	}
	s, err := spell(word)
	if err != nil {
		return false
	}
	full, d, byDigest := strings.Cut(reference, "@")
	tag := ""
	if !byDigest {
		if i := strings.LastIndexByte(full, ':'); i > 0 {
			full, tag = full[:i], full[i+1:]
		}
	}
	repo, err := oci.ParseRepo(full)
	if err != nil {
		return false
	}
	_, ok := s.distance(repo)
	return ok && s.tag == tag && s.digest == digest.Digest(d)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}
