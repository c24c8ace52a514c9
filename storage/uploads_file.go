package storage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// uploadFile is the open file of an upload. The last of its users closes it.
type uploadFile struct {
	PartialFile
	users int // guarded by Upload.mu
}

// open gives the file, which stays open until the caller releases the upload,
// of one that is no further than latest.
func (u *Upload) open(ctx context.Context, latest uploadState) (PartialFile, error) {
	if u.stateNow() > latest {
		return nil, fmt.Errorf("upload %s: %w: all of it has come", u.id, ErrNotFound)
	}
	if u.held == nil {
		f, err := u.use(ctx)
		if err != nil {
			return nil, err
		}
		u.held = f
	}
	return u.held, nil
}

// use counts one more user of the file; the caller has the upload.
func (u *Upload) use(ctx context.Context) (*uploadFile, error) {
	u.mu.Lock()
	f, size := u.file, u.size
	if f != nil {
		f.users++
	}
	u.mu.Unlock()
	if f != nil {
		return f, nil
	}
	var opened PartialFile
	err := u.s.unlessFull(ctx, step, func() (err error) {
		opened, err = u.s.blobs.OpenPartial(ctx, uploadPrefix+u.id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if size > 0 && !reaches(opened, []oci.Range{{Off: 0, End: size}}) {
		return nil, errors.Join(fmt.Errorf("upload %s: %w: its file is shorter than the %d bytes that were acknowledged", u.id, ErrNotFound, size), opened.Close())
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.file = &uploadFile{PartialFile: opened, users: 1}
	return u.file, nil
}

// closeFile ends one use of f.
func (u *Upload) closeFile(f *uploadFile) {
	u.mu.Lock()
	f.users--
	last := f.users == 0
	if last && u.file == f {
		u.file = nil
	}
	u.mu.Unlock()
	if !last {
		return
	}
	if err := f.Close(); err != nil {
		u.s.log.Warn("file of an upload not closed", "upload", u.id, "err", err)
	}
}

// catchUp hashes what this process has not hashed by algorithm yet.
func (u *Upload) catchUp(ctx context.Context, f io.ReaderAt, algorithm digest.Algorithm) error {
	if u.sum != nil && u.row.Algorithm == algorithm {
		return nil
	}
	sum := algorithm.Hash()
	if err := ReadInto(ctx, sum, f, u.size, nil); err != nil {
		return fmt.Errorf("read upload %s: %w", u.id, err)
	}
	u.sum, u.row.Algorithm = sum, algorithm
	return nil
}

// Checkpoint makes what has come durable: from there a client may go on, also
// after a crash. When it fails, what came since the last one may have to be sent
// again, see Size.
func (u *Upload) Checkpoint(ctx context.Context) error {
	if err := u.sync(ctx); err != nil {
		return err
	}
	return u.fileRow(ctx, "")
}

// sync makes durable what has come. When the medium can't, what came since it
// last did is forgotten: pages that it lost count as written, so that a second
// attempt would succeed without them.
func (u *Upload) sync(ctx context.Context) error {
	if u.size == u.synced {
		return nil
	}
	f, err := u.open(ctx, uploadMatched)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		u.s.metrics.failed(opCheckpoint)
		u.cutBack()
		return err
	}
	u.synced = u.size
	return nil
}

// cutBack forgets what is not durable, and the file as it is open: the client
// writes those bytes anew, and who follows the upload has come to its end.
func (u *Upload) cutBack() {
	u.room.wrote(u.synced - u.size)
	u.room.count(u.synced - u.size)
	u.s.uploads.grow(u, u.synced-u.size)
	u.sum = nil
	u.mu.Lock()
	u.size, u.state, u.file = u.synced, uploadOpen, nil
	u.tell()
	u.mu.Unlock()
	u.closeFile(u.held)
	u.held = nil
}

// fileRow writes the upload's row. What is synced is about to become d, if that
// is not "".
func (u *Upload) fileRow(ctx context.Context, d digest.Digest) error {
	row := u.row
	row.Size, row.Touched, row.Digest = u.synced, u.s.now().UTC().Round(0), d
	u.tried = true
	if err := u.s.update(ctx, func(tx Tx) error { return tx.PutUpload(row) }); err != nil {
		u.s.metrics.failed(opCheckpoint)
		return fmt.Errorf("file upload %s: %w", u.id, err)
	}
	u.row, u.filed = row, true
	return nil
}

// removeUploadFile removes the file under key of an upload that there is no more.
func (s *Store) removeUploadFile(ctx context.Context, key string) error {
	f, err := s.blobs.OpenPartial(ctx, key)
	if err != nil {
		return err
	}
	return errors.Join(f.Remove(), f.Close())
}
