package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Writer takes the bytes of one blob. It is not safe for concurrent use, and
// the caller always closes it.
type Writer struct {
	s    *Store
	ctx  context.Context // of Create: bounds how long Write waits for room
	w    BlobWriter
	size int64
	room allotment
	once bool // part of an eviction: that a medium is full is no reason for another, and nobody is waited for
}

// Create starts a blob. ctx also bounds the waiting of Write for room.
func (s *Store) Create(ctx context.Context) (*Writer, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	var w BlobWriter
	err := s.unlessFull(ctx, step, func() (err error) {
		w, err = s.blobs.Create(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Writer{s: s, ctx: ctx, w: w, room: allotment{s: s}}, nil
}

// Reserve makes room for size bytes in all before they come, evicting others
// where it must: ErrFull then comes now and not in the middle of the blob.
func (w *Writer) Reserve(ctx context.Context, size int64) error {
	return w.room.reserve(ctx, size)
}

// Write appends p. ErrFull when there is no room, and nothing left to evict.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.room.write(w.ctx, int64(len(p))); err != nil {
		return 0, err
	}
	all := len(p)
	write := func() error {
		n, err := w.w.Write(p)
		w.size += int64(n)
		p = p[n:]
		return err
	}
	var err error
	if w.once {
		err = write()
	} else {
		err = w.s.unlessFull(w.ctx, int64(all), write)
	}
	w.room.wrote(int64(all - len(p)))
	return all - len(p), err
}

// Commit checks the bytes against row.Digest and files them under row, of which
// Kind and Digest are needed; Size is checked where it is not 0, and times are
// set where they are zero. ErrDigest when the bytes are others: nothing is kept
// then. From its return on Open finds the blob; see Durability for what a crash
// may do to it. A blob that is there already stays, with the kind that is worth
// more: index, zTOC, manifest, hosted blob, blob, span. One that a hosted repository
// has and that was lost is a hosted blob again.
func (w *Writer) Commit(ctx context.Context, row BlobRow, dur Durability) error {
	if row.Size != 0 && row.Size != w.size {
		return fmt.Errorf("commit blob %s: %w: %d bytes, want %d", row.Digest, ErrDigest, w.size, row.Size)
	}
	row.Size = w.size
	return w.s.settle(ctx, row, settlement{
		dur:  dur,
		idle: w.once,
		bytes: func(bool) error {
			commit := func() error { return w.w.Commit(ctx, row.Digest) }
			if w.once {
				return commit()
			}
			return w.s.unlessFullLocked(ctx, rowsBytes, commit)
		},
		done: w.room.release,
	})
}

// Close drops what was not committed.
func (w *Writer) Close() error {
	defer w.room.release()
	return w.w.Close()
}

// Put stores a small blob durably. more, if not nil, runs in the transaction
// that writes the row, also when the blob is there already, which is read and
// replaced where it is damaged; what holds of Update's fn holds of more. ErrDigest
// when body is not row.Digest.
func (s *Store) Put(ctx context.Context, row BlobRow, body []byte, more func(Tx) error) error {
	if err := row.Digest.Validate(); err != nil {
		return fmt.Errorf("put blob %.100q: %w", row.Digest.String(), err)
	}
	if got := row.Digest.Algorithm().FromBytes(body); got != row.Digest {
		return fmt.Errorf("put blob %s: %w: it is %s", row.Digest, ErrDigest, got)
	}
	if err := s.count(ctx); err != nil {
		return err
	}
	if err := s.DropWrong(ctx, row.Digest); err != nil {
		return fmt.Errorf("put blob %s: %w", row.Digest, err)
	}
	row.Size = int64(len(body))
	room := allotment{s: s}
	defer room.release()
	if _, err := s.Stat(ctx, row.Digest); errors.Is(err, ErrNotFound) {
		if err := room.reserve(ctx, row.Size); err != nil {
			return err
		}
	}
	return s.settle(ctx, row, settlement{
		dur: Durable,
		more: func(tx Tx) error {
			if more != nil {
				if err := more(tx); err != nil {
					return err
				}
			}
			if row.Kind != KindManifest {
				return nil
			}
			return extendPins(tx, row.Digest)
		},
		done: room.release,
		bytes: func(there bool) error {
			if there {
				return nil
			}
			return s.unlessFullLocked(ctx, row.Size, func() error { return s.writeAll(ctx, row.Digest, body) })
		},
	})
}

func (s *Store) writeAll(ctx context.Context, d digest.Digest, body []byte) error {
	w, err := s.blobs.Create(ctx)
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	if err == nil {
		err = w.Commit(ctx, d)
	}
	return errors.Join(err, w.Close())
}
