package storage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

// PurgeUnneeded is Purge of what was made here, unless somebody needs it: a hosted
// repository that has it, a pin, or needed, if not nil, says so in the transaction
// that deletes its row; what holds of Update's fn holds of it. gone says that it
// is not there any more.
func (s *Store) PurgeUnneeded(ctx context.Context, d digest.Digest, needed func(Tx) (bool, error)) (gone bool, err error) {
	if err := s.count(ctx); err != nil {
		return false, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return false, err
	}
	defer s.digests.unlock(e)
	var row BlobRow
	var stay bool
	err = s.meta.Update(ctx, func(tx Tx) (err error) {
		if row, err = tx.Blob(d); err != nil {
			return err
		}
		if stay, err = isNeeded(tx, d, needed); stay || err != nil {
			return err
		}
		return errors.Join(forgetRows(tx, row), tx.DeleteBlob(d))
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case err == nil && stay:
		return false, nil
	case err != nil:
		s.metrics.failed(opRow)
		if _, serr := s.Stat(context.WithoutCancel(ctx), d); !errors.Is(serr, ErrNotFound) || row.Digest == "" {
			return false, err
		} // it is stored all the same
	}
	err = errors.Join(err, s.drop(ctx, e, row.Size))
	s.uncount(row)
	return true, err
}

func isNeeded(tx Tx, d digest.Digest, needed func(Tx) (bool, error)) (bool, error) {
	if hosted, err := isHosted(tx, d); hosted || err != nil {
		return hosted, err
	}
	if pinned, err := tx.Pinned(d); pinned || err != nil || needed == nil {
		return pinned, err
	}
	return needed(tx)
}
