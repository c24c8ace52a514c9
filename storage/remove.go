package storage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

// Purge removes d, row first and then bytes, also what there is of a partial of
// it. Whoever has it open reads on; a partial that is being written fails with
// ErrNotFound. freed is the number of bytes that were counted for it; what is
// not there is success.
func (s *Store) Purge(ctx context.Context, d digest.Digest) (freed int64, err error) {
	if err := s.count(ctx); err != nil {
		return 0, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return 0, err
	}
	defer s.digests.unlock(e)
	ofPartial, err := s.removePartialLocked(ctx, e)
	if err != nil {
		return 0, err
	}
	freed, err = s.removeLocked(ctx, e)
	return freed + ofPartial, err
}

// removeLocked removes e's blob: row, then bytes. The caller has e locked.
func (s *Store) removeLocked(ctx context.Context, e *entry) (freed int64, err error) {
	row, err := s.Stat(ctx, e.d)
	if errors.Is(err, ErrNotFound) {
		return 0, s.blobs.Remove(ctx, e.d)
	}
	if err != nil {
		return 0, err
	}
	return row.Size, s.forget(ctx, e, row)
}

// forget removes a blob that is counted as row says. When its row can't be
// deleted all stays as it is.
func (s *Store) forget(ctx context.Context, e *entry, row BlobRow) error {
	if p := s.digests.pendingOf(e.d); p == nil || p.rowed {
		if err := s.deleteRow(ctx, e); err != nil {
			return err
		}
	}
	err := s.drop(ctx, e)
	s.uncount(row)
	return err
}

// lose removes a blob whose bytes can't be trusted, whether or not its row can
// be deleted: should one stay, Open finds it without bytes. The caller uncounts.
func (s *Store) lose(ctx context.Context, e *entry) error {
	return errors.Join(s.deleteRow(ctx, e), s.drop(ctx, e))
}

func (s *Store) deleteRow(ctx context.Context, e *entry) error {
	err := s.meta.Update(ctx, func(tx Tx) error { return tx.DeleteBlob(e.d) })
	if err != nil {
		s.metrics.failed(opRow)
	}
	return err
}

// drop removes the bytes of a blob without a row.
func (s *Store) drop(ctx context.Context, e *entry) error {
	s.digests.setPending(e, nil)
	return s.blobs.Remove(context.WithoutCancel(ctx), e.d)
}

func (s *Store) uncount(row BlobRow) { s.space.add(row.Kind, -row.Size, -1) }
