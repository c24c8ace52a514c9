package storage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// DropWrong reads what is stored of d. Where it is not what its name says, or can't
// be read, it is withdrawn with a warning: what a hosted repository has is put into
// quarantine. So whoever brings right bytes next has them stored, and whoever relies
// on the blob finds that it is not here. Its digest is not locked while it is read,
// unless it is found to be wrong.
func (s *Store) DropWrong(ctx context.Context, d digest.Digest) error {
	if _, err := s.Stat(ctx, d); err != nil {
		return ignoreAbsent(err)
	}
	if fresh, ok := s.blobs.(renewer); ok {
		fresh.Renew(d)
	}
	if wrong, err := s.wrong(ctx, d); err != nil || wrong == nil {
		return err
	}
	if err := s.count(ctx); err != nil {
		return err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	row, err := s.Stat(ctx, d)
	if err != nil { // gone since
		return ignoreAbsent(err)
	}
	wrong, err := s.stillWrong(ctx, d)
	if err != nil || wrong == nil {
		return err
	}
	s.metrics.failed(opCheck)
	hosted, err := s.hostedBlob(ctx, d)
	if err != nil {
		return err
	}
	s.log.WarnContext(ctx, "blob is damaged, withdrawn", "digest", d, "bytes", row.Size, "quarantined", hosted, "err", wrong)
	if hosted {
		s.digests.setBad(e, true)
		return s.quarantineLocked(ctx, e)
	}
	if err := s.forgetMade(ctx, d); err != nil {
		return err
	}
	_, err = s.removeLocked(ctx, e)
	return err
}

// stillWrong is wrong of the file that has d's name by now, for who has d locked:
// between a look without the lock and this one others may have brought right bytes.
func (s *Store) stillWrong(ctx context.Context, d digest.Digest) (wrong, err error) {
	if fresh, ok := s.blobs.(renewer); ok {
		fresh.Renew(d)
	}
	return s.wrong(ctx, d)
}

// wrong says what is wrong with the file of d, nil where it is right. err is why
// that is not known.
func (s *Store) wrong(ctx context.Context, d digest.Digest) (wrong, err error) {
	switch err = s.compare(ctx, d); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrDigest), errors.Is(err, errUnreadable):
		return err, nil
	}
	return nil, err
}

// errUnreadable is a file that is there and that the medium does not give.
var errUnreadable = errors.New("its bytes can't be read")

// compare reads the file of d: ErrNotFound, ErrDigest where it holds something else,
// errUnreadable.
func (s *Store) compare(ctx context.Context, d digest.Digest) error {
	b, err := s.blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	verify := d.Verifier()
	if err = ReadInto(ctx, verify, b, b.Size(), nil); err != nil {
		err = fmt.Errorf("%w: %w", errUnreadable, err)
	} else if !verify.Verified() {
		err = fmt.Errorf("%w: blob %s holds others", ErrDigest, d)
	}
	return errors.Join(err, b.Close())
}

// ReadInto writes the first size bytes of r to w, a hash for example, until ctx ends:
// its cause. io.ErrUnexpectedEOF where there are fewer. buf may be nil.
func ReadInto(ctx context.Context, w io.Writer, r io.ReaderAt, size int64, buf []byte) error {
	if buf == nil {
		buf = make([]byte, 256<<10)
	}
	n, err := io.CopyBuffer(w, untilDone{ctx, io.NewSectionReader(r, 0, size)}, buf)
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// untilDone reads until its context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
