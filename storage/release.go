package storage

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// maxReleased bounds what one deletion looks at, and so its transaction. What is
// beyond it counts on until it is collected.
const maxReleased = 20_000

// Release follows the deletion of the manifest d from repo: what the repository
// has for it alone, which is blobs, the images of an index, signatures and other
// referrers, is released from now on. It can be read until it is collected, but no
// longer counts; see Reclaim. What a tag, a pin or another manifest of the
// repository needs stays as it is.
func Release(tx Tx, repo oci.Repo, d digest.Digest, now time.Time) error {
	now = now.UTC().Round(0)
	seen := map[digest.Digest]bool{}
	for todo := []digest.Digest{d}; len(todo) > 0; todo = todo[1:] {
		list, err := dependents(tx, repo, todo[0])
		if err != nil {
			return err
		}
		for _, d := range list {
			row, err := tx.Content(repo, d)
			if errors.Is(err, ErrNotFound) || err == nil && !row.Released.IsZero() {
				continue
			}
			if err != nil {
				return err
			}
			if seen[d] = true; len(seen) > maxReleased {
				return nil
			}
			needed, err := neededIn(tx, row)
			if err != nil {
				return err
			}
			if needed {
				continue
			}
			row.Released = now
			if err := tx.PutContent(row); err != nil {
				return err
			}
			if row.Manifest {
				todo = append(todo, d)
			}
		}
	}
	return nil
}

// Reclaim gives what repo has for the manifest d and was released: who pushes d
// counts on it, and has to put it anew, as not released.
func Reclaim(tx Tx, repo oci.Repo, d digest.Digest) (rows []ContentRow, err error) {
	seen := map[digest.Digest]bool{}
	for todo := []digest.Digest{d}; len(todo) > 0; todo = todo[1:] {
		list, err := dependents(tx, repo, todo[0])
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			row, err := tx.Content(repo, d)
			if errors.Is(err, ErrNotFound) || err == nil && (row.Released.IsZero() || seen[d]) {
				continue
			}
			if err != nil {
				return nil, err
			}
			seen[d], row.Released = true, time.Time{}
			rows = append(rows, row)
			if row.Manifest {
				todo = append(todo, d)
			}
		}
	}
	return rows, nil
}

// dependents are what a repository has for the manifest d: what it names, and
// what is about it.
func dependents(tx Tx, repo oci.Repo, d digest.Digest) ([]digest.Digest, error) {
	row, err := tx.Manifest(d)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	list := Named(&row.Manifest)
	err = tx.Referrers(d, func(ref ReferrerRow) error {
		if ref.Repo == repo {
			list = append(list, ref.Descriptor.Digest)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	tags, err := digestTags(tx, repo, d)
	for i := range tags {
		list = append(list, tags[i].Digest)
	}
	return list, err
}

// neededIn reports whether something of the repository that was not released
// needs row, or a pin does.
func neededIn(tx Tx, row ContentRow) (bool, error) {
	if pinned, err := tx.Pinned(row.Digest); pinned || err != nil {
		return pinned, err
	}
	named, err := found(tx.NamedBy(row.Digest, func(by digest.Digest) error {
		counts, err := countsIn(tx, row.Repo, by)
		if counts {
			return errOne
		}
		return err
	}))
	if named || err != nil || !row.Manifest {
		return named, err
	}
	tagged, err := found(tx.TagsOf(row.Digest, func(repo oci.Repo, tag string) error {
		if repo != row.Repo {
			return nil
		}
		over, err := isOver(tx, repo, tag)
		if err == nil && !over {
			err = errOne
		}
		return err
	}))
	if tagged || err != nil {
		return tagged, err
	}
	m, err := tx.Manifest(row.Digest)
	if errors.Is(err, ErrNotFound) || err == nil && m.Manifest.Subject == nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return countsIn(tx, row.Repo, m.Manifest.Subject.Digest)
}

// countsIn reports whether repo has d, and not only until it is collected.
func countsIn(tx Tx, repo oci.Repo, d digest.Digest) (bool, error) {
	row, err := tx.Content(repo, d)
	return err == nil && row.Released.IsZero(), ignoreAbsent(err)
}

// isOver reports a tag about a manifest that was deleted or released.
func isOver(tx Tx, repo oci.Repo, tag string) (bool, error) {
	subject := subjectOf(tag)
	if subject == "" {
		return false, nil
	}
	about, err := tx.Content(repo, subject)
	if err == nil {
		return !about.Released.IsZero(), nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	row, err := tx.Tag(repo, tag)
	return err == nil && !row.Orphaned.IsZero(), ignoreAbsent(err)
}
