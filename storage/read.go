package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// Stat gives the row of d, or of a blob that is committed and not yet durable.
// ErrNotFound. It does not look at the bytes.
func (s *Store) Stat(ctx context.Context, d digest.Digest) (row BlobRow, err error) {
	if p := s.digests.pendingOf(d); p != nil {
		return p.row, nil
	}
	err = s.meta.View(ctx, func(tx Tx) (err error) {
		row, err = tx.Blob(d)
		return err
	})
	return row, err
}

// BlobIn is Stat within a transaction.
func (s *Store) BlobIn(tx Tx, d digest.Digest) (BlobRow, error) {
	if p := s.digests.pendingOf(d); p != nil {
		return p.row, nil
	}
	return tx.Blob(d)
}

// Open opens a blob that has a row, or is committed and not yet durable.
// ErrNotFound for all others. A row whose bytes are gone, or have another size,
// is deleted with a warning and counts as absent. The read is noted in memory
// and filed later. Until the Blob is closed it is not evicted.
func (s *Store) Open(ctx context.Context, d digest.Digest) (Blob, error) {
	return s.open(ctx, d, func() (Blob, BlobRow, error) { return s.openRow(ctx, d) })
}

// OpenRow is Open for a caller who has just read the blob's row, which is then
// not read again.
func (s *Store) OpenRow(ctx context.Context, row BlobRow) (Blob, error) {
	return s.open(ctx, row.Digest, func() (Blob, BlobRow, error) {
		b, err := s.openBytes(ctx, row)
		return b, row, err
	})
}

func (s *Store) open(ctx context.Context, d digest.Digest, try func() (Blob, BlobRow, error)) (Blob, error) {
	o := s.digests.opened(d)
	b, row, err := try()
	if errors.Is(err, errDamaged) {
		b, row, err = s.repair(ctx, d)
	}
	if err != nil {
		s.closed(o)
		return nil, err
	}
	s.accesses.note(d, row.Accessed, s.now())
	return &openBlob{Blob: b, s: s, o: o}, nil
}

// errDamaged means that the bytes are not what the row says.
var errDamaged = errors.New("bytes are gone, have another size, or were found to be others")

// errMissized is errDamaged of a size: it may be the row's that is wrong.
var errMissized = fmt.Errorf("%w: its size", errDamaged)

func (s *Store) openRow(ctx context.Context, d digest.Digest) (Blob, BlobRow, error) {
	row, err := s.Stat(ctx, d)
	if err != nil {
		return nil, row, err
	}
	b, err := s.openBytes(ctx, row)
	return b, row, err
}

// openBytes opens what row speaks of; errDamaged where it is not that.
func (s *Store) openBytes(ctx context.Context, row BlobRow) (Blob, error) {
	d := row.Digest
	if s.digests.isBad(d) {
		return nil, fmt.Errorf("%w: blob %s", errDamaged, d)
	}
	b, err := s.blobs.Open(ctx, d)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	if b.Size() != row.Size {
		err := fmt.Errorf("%w: blob %s has %d bytes, its row says %d", errMissized, d, b.Size(), row.Size)
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// repair looks again where nobody else changes d, since it may have been
// removed between row and bytes, and else forgets it; what was pushed is put aside,
// unless it is its row that is wrong.
func (s *Store) repair(ctx context.Context, d digest.Digest) (Blob, BlobRow, error) {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return nil, BlobRow{}, err
	}
	defer s.digests.unlock(e)
	b, row, err := s.openRow(ctx, d)
	if !errors.Is(err, errDamaged) {
		return b, row, err
	}
	s.metrics.failed(opRepair)
	hosted, herr := s.hostedBlob(ctx, d)
	if herr != nil {
		return nil, row, errors.Join(err, herr)
	}
	if hosted && errors.Is(err, errMissized) {
		right, rerr := s.resizeLocked(ctx, e)
		if rerr != nil {
			return nil, row, rerr
		}
		if right {
			s.log.WarnContext(ctx, "the row of a blob that was pushed here said a wrong size, put right", "digest", d, "said", row.Size)
			return s.openRow(ctx, d)
		}
	}
	if hosted { // there may be no other copy
		s.log.ErrorContext(ctx, "a blob that was pushed here is damaged, put aside: push it again", "digest", d, "bytes", row.Size, "err", err)
		s.digests.setBad(e, true)
		err = s.quarantineLocked(ctx, e)
	} else {
		s.log.WarnContext(ctx, "blob is damaged, forgotten", "digest", d, "bytes", row.Size, "err", err)
		_, err = s.removeLocked(ctx, e)
	}
	if err != nil {
		return nil, row, err
	}
	return nil, row, fmt.Errorf("blob %s: %w", d, ErrNotFound)
}

// openBlob tells the Store when it is closed.
type openBlob struct {
	Blob
	s      *Store
	o      opening
	closed atomic.Bool
}

func (b *openBlob) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	err := b.Blob.Close()
	b.s.closed(b.o)
	return err
}

// closed undoes digests.opened, once the blob is closed.
func (s *Store) closed(o opening) { s.space.keep(-s.digests.closed(o)) }

// Used notes that a blob was asked for, though its bytes were not read: somebody
// relies on it. row is the one that was found.
func (s *Store) Used(row BlobRow) { s.accesses.note(row.Digest, row.Accessed, s.now()) }
