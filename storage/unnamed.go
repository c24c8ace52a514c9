package storage

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Unnamed is how many bytes of ContentBytes of upstream no manifest names: blobs of
// pushes that are under way, or that came to nothing. A collection without grace
// frees them. It looks at most rows, and is a lower bound where whole is false.
func Unnamed(tx Tx, upstream string, most int) (bytes int64, whole bool, err error) {
	cut, err := found(tx.ContentRepos(upstream, "", func(repo oci.Repo) error {
		return tx.Contents(repo, func(row ContentRow) error {
			if most--; most < 0 {
				return errOne
			}
			if row.Manifest || !row.Counts() || row.Digest == oci.EmptyDigest {
				return nil
			}
			free, err := isUnnamed(tx, row)
			if free {
				bytes += row.Size
			}
			return err
		})
	}))
	return bytes, !cut, err
}

// isUnnamed reports that nothing needs row's digest in its upstream. Of several
// repositories that have it, it is the first's.
func isUnnamed(tx Tx, row ContentRow) (bool, error) {
	if pinned, err := tx.Pinned(row.Digest); pinned || err != nil {
		return false, err
	}
	needed, err := found(tx.ContentOf(row.Digest, func(repo oci.Repo) error {
		if repo.Upstream != row.Repo.Upstream {
			return nil
		}
		counts, err := countsIn(tx, repo, row.Digest)
		if err != nil || !counts {
			return err
		}
		if repo.Name < row.Repo.Name { // counted there
			return errOne
		}
		named, err := isNamedIn(tx, repo, row.Digest)
		if named {
			return errOne
		}
		return err
	}))
	return err == nil && !needed, err
}

// isNamedIn reports whether a manifest that repo has names d.
func isNamedIn(tx Tx, repo oci.Repo, d digest.Digest) (bool, error) {
	return found(tx.NamedBy(d, func(by digest.Digest) error {
		_, err := tx.Content(repo, by)
		switch {
		case err == nil:
			return errOne
		case errors.Is(err, ErrNotFound):
			return nil
		}
		return err
	}))
}
