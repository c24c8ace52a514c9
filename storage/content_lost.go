package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Counts reports whether the row's bytes are in ContentBytes of its upstream.
func (r ContentRow) Counts() bool { return r.Released.IsZero() && !r.Lost }

// loseContent says of all hosted repositories that have d that it is lost, or
// that it is here again.
func loseContent(tx Tx, d digest.Digest, lost bool) error {
	var repos []oci.Repo
	err := tx.ContentOf(d, func(repo oci.Repo) error {
		repos = append(repos, repo)
		return nil
	})
	for _, repo := range repos {
		if err != nil {
			return err
		}
		var row ContentRow
		row, err = tx.Content(repo, d)
		if errors.Is(err, ErrNotFound) { // or can't be read: fsck finds out
			err = nil
			continue
		}
		if err == nil && row.Lost != lost {
			row.Lost = lost
			err = tx.PutContent(row)
		}
	}
	return err
}

// putBlob is PutBlob of what may be the return of something lost.
func putBlob(tx Tx, row BlobRow) error {
	if _, err := tx.Blob(row.Digest); errors.Is(err, ErrNotFound) {
		if err := loseContent(tx, row.Digest, false); err != nil {
			return err
		}
	}
	return tx.PutBlob(row)
}

// fileLost is loseContent of a blob without a row; it does nothing where there is
// one.
func (s *Store) fileLost(ctx context.Context, d digest.Digest) error {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	if _, err := s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := s.meta.Update(ctx, func(tx Tx) error { return loseContent(tx, d, true) }); err != nil {
		return fmt.Errorf("file that %s is lost: %w", d, err)
	}
	return nil
}
