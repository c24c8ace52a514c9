package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Commit makes the bytes, which Matches found to be d's, a blob of that kind. One that
// is there already is read, and replaced where it is damaged.
// more, if not nil, runs in the transaction that writes its row, also when the
// blob is there already; what holds of Update's fn holds of it. All of it is
// durable when Commit returns, and the upload is over. When it fails the upload
// stays as it was, unless its bytes had got their name already, or more failed: then
// it is over, too.
//
// A crash in between leaves a client that was told that its bytes are here all
// of them: they are synced, and the row says what they are about to be, before
// they get that name; see takeBack.
func (u *Upload) Commit(ctx context.Context, d digest.Digest, kind Kind, more func(Tx) error) error {
	f := u.held
	if u.stateNow() != uploadMatched || f == nil {
		return fmt.Errorf("commit upload %s: %w: its bytes were not compared", u.id, ErrDigest)
	}
	if u.filed {
		err := u.sync(ctx)
		if err == nil {
			err = u.fileRow(ctx, d)
		}
		if err != nil {
			return err
		}
	}
	// What is here already stays only if it is right: the client's copy goes.
	if err := u.s.DropWrong(ctx, d); err != nil {
		return fmt.Errorf("commit upload %s: %w", u.id, err)
	}
	named, refused := false, false
	err := u.s.settle(ctx, BlobRow{Digest: d, Size: u.size, Kind: kind}, settlement{
		dur: Durable,
		bytes: func(there bool) error {
			if there {
				return nil // its own go once that is filed
			}
			err := u.s.unlessFullLocked(ctx, rowsBytes, func() error { return f.Commit(ctx, d, u.size) })
			named = err == nil
			return err
		},
		more: func(tx Tx) error {
			if u.tried {
				if err := tx.DeleteUpload(u.id); err != nil {
					return err
				}
			}
			if more == nil {
				return nil
			}
			err := more(tx)
			refused = err != nil
			return err
		},
		done: u.room.release,
	})
	if err != nil {
		if named || refused {
			err = errors.Join(err, u.end(ctx))
		}
		return err
	}
	u.s.uploads.drop(u)
	if err := f.Remove(); err != nil { // after a rename it has nothing to do
		u.s.log.WarnContext(ctx, "file of an upload not removed, it is swept", "upload", u.id, "err", err)
	}
	return nil
}

// takeBack gives an upload its bytes back that have got the name of a blob, but
// not its row: the process was killed in between. It runs before anything else
// could take them for garbage.
func (s *Store) takeBack(ctx context.Context, rows []UploadRow) error {
	for _, row := range rows {
		if row.Digest == "" {
			continue
		}
		err := s.meta.View(ctx, func(tx Tx) error {
			_, err := tx.Blob(row.Digest)
			return err
		})
		if err == nil { // the blob was there before
			continue
		}
		if errors.Is(err, ErrNotFound) {
			err = s.blobs.Reclaim(ctx, row.Digest, uploadPrefix+row.ID)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("take up upload %s: %w", row.ID, err)
		}
	}
	return nil
}
