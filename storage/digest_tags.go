package storage

import (
	"errors"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// A tag that begins with a manifest's digest is about that manifest: its
// referrers are listed there (distribution specification, "Referrers Tag
// Schema"), or it is a signature, attestation or SBOM as cosign names them,
// sha256-HEX.sig. Such a tag lives and dies with the manifest.

// isDigestTag reports a tag that is about another manifest.
func isDigestTag(tag string) bool {
	algorithm, rest, ok := strings.Cut(tag, "-")
	hex, _, _ := strings.Cut(rest, ".")
	return ok && len(hex) == 64 && (algorithm == "sha256" || algorithm == "sha512") &&
		strings.Trim(hex, "0123456789abcdef") == ""
}

// subjectOf is the manifest that a tag is about, as far as the tag has all of its
// digest; "" where it is about none.
func subjectOf(tag string) digest.Digest {
	if !isDigestTag(tag) {
		return ""
	}
	tag, _, _ = strings.Cut(tag, ".")
	if d := digest.Digest(strings.Replace(tag, "-", ":", 1)); d.Validate() == nil {
		return d
	}
	return ""
}

// digestTags gives the tags of repo that are about d, as far as that can be told.
func digestTags(tx Tx, repo oci.Repo, d digest.Digest) (rows []TagRow, err error) {
	tag := strings.Replace(d.String(), ":", "-", 1)
	if subjectOf(tag) != d {
		return nil, nil
	}
	before := tag[:len(tag)-1] // sorts before all of them
	_, err = found(tx.Tags(repo, before, func(row TagRow) error {
		if !strings.HasPrefix(row.Tag, before) {
			return errOne
		}
		if subjectOf(row.Tag) == d {
			rows = append(rows, row)
		}
		return nil
	}))
	return rows, err
}

// orphanTags notes that what repo's tags about d are about was deleted.
func orphanTags(tx Tx, repo oci.Repo, d digest.Digest, now time.Time) error {
	rows, err := digestTags(tx, repo, d)
	for _, row := range rows {
		if err == nil {
			row.Orphaned = now.UTC().Round(0)
			err = tx.PutTag(row)
		}
	}
	return err
}

// follows reports a tag that lives and dies with the manifest that it is about.
// One that is about a manifest which repo never had is a tag as any other.
func (g *collection) follows(tx Tx, row TagRow) (bool, error) {
	subject := subjectOf(row.Tag)
	if subject == "" { // where a digest is cut short, nobody can tell
		return isDigestTag(row.Tag), nil
	}
	here, err := g.has(tx, row.Repo, subject)
	if here || err != nil {
		return here, err
	}
	return g.wasDeleted(tx, row.Repo, subject, row.Tag)
}

// wasDeleted reports a manifest that repo had: it notes that in the tags that are
// about it, and in the rows of its referrers.
func (g *collection) wasDeleted(tx Tx, repo oci.Repo, d digest.Digest, tag string) (bool, error) {
	if here, err := g.has(tx, repo, d); here || err != nil {
		return false, err
	}
	if g.deadContent[right{repo, d}] {
		return true, nil
	}
	row, err := tx.Tag(repo, tag)
	if err == nil && !row.Orphaned.IsZero() {
		return true, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	return found(tx.Referrers(d, func(ref ReferrerRow) error {
		if ref.Repo == repo && !ref.Orphaned.IsZero() {
			return errOne
		}
		return nil
	}))
}
