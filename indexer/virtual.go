package indexer

import (
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// ConvertedAt gives the tag whose converted form tag stands for, where a rule
// has that served beside it: "7" for "7-soci".
func (x *Indexer) ConvertedAt(repo oci.Repo, tag string) (base string, ok bool) {
	base, ok = strings.CutSuffix(tag, ConvertedSuffix)
	if !ok || base == "" || !Converts(base) || x.opt.Disabled {
		return "", false
	}
	r := x.ruleFor(named{repo, []string{base}})
	return base, r.converts() && r.V2At != V2AtTag
}

// ConvertedInPlace reports whether a rule has the converted form of tag served
// at the tag itself.
func (x *Indexer) ConvertedInPlace(repo oci.Repo, tag string) bool {
	if x.opt.Disabled || !Converts(tag) {
		return false
	}
	r := x.ruleFor(named{repo, []string{tag}})
	return r.converts() && r.V2At == V2AtTag
}

// Withdrawn reports whether d, which the tag of base's converted form leads to at
// the upstream, was made here, and an operator wants it offered in repo no more.
func (x *Indexer) Withdrawn(tx storage.Tx, repo oci.Repo, base string, d digest.Digest) (bool, error) {
	source := digest.Digest("")
	row, err := tx.Blob(d)
	if err == nil && row.Kind == storage.KindIndex {
		source = row.Of
	} else if err = ignoreNotFound(err); err != nil {
		return false, err
	}
	if source == "" { // not here any more
		tag, err := tx.Tag(repo, base)
		if err == nil {
			_, err = tx.Published(repo, tag.Digest, d)
		}
		if err != nil {
			return false, ignoreNotFound(err)
		}
		source = tag.Digest
	}
	of := []digest.Digest{source}
	m, err := tx.Manifest(source)
	if err = ignoreNotFound(err); err != nil {
		return false, err
	}
	for i := range m.Manifest.Manifests {
		of = append(of, m.Manifest.Manifests[i].Digest)
	}
	for _, d := range of {
		img, err := tx.Image(d)
		if err == nil && img.WithdrawnFrom(repo) {
			return true, nil
		}
		if err = ignoreNotFound(err); err != nil {
			return false, err
		}
	}
	return false, nil
}
