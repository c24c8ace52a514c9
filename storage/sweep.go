package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// sweepGrace is how long bytes without a row are left alone after the start.
// Locks keep apart what this process does; the grace is for a medium that
// several share, where a row may be about to follow.
const sweepGrace = time.Minute

// orphan is a file without a row.
type orphan struct {
	d    digest.Digest
	key  string // of a partial, "" for a blob
	size int64
}

// upload is the id of the upload that the file is of, "" where it is of none.
func (o orphan) upload() string {
	id, ok := strings.CutPrefix(o.key, uploadPrefix)
	if !ok {
		return ""
	}
	return id
}

// sweepLoop removes what a crash left, once: bytes without a row, files of partials
// without a row, rows of partials without their bytes, and file and row of the partial
// of a blob that is whole. Then it tries again and again to remove what could not be,
// until ctx ends.
func (s *Store) sweepLoop(ctx context.Context) {
	sleep(ctx, sweepGrace)
	err := s.sweepAll(ctx, s.strays.list())
	for err = errors.Join(err, s.checkPartials(ctx)); ctx.Err() == nil; err = s.sweepAll(ctx, s.strays.listLeft()) {
		if err != nil {
			s.metrics.failed(opSweep)
			s.log.ErrorContext(ctx, "sweep failed", "err", err)
		}
		sleep(ctx, sweepGrace)
	}
}

// sweepAll removes those of found that are orphans still. One that can't be removed
// keeps no other; the first error is returned.
func (s *Store) sweepAll(ctx context.Context, found []orphan) (first error) {
	var files int
	var bytes int64
	for _, o := range found {
		gone, err := s.sweep(ctx, o)
		if ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
		if gone {
			files++
			bytes += o.size
		}
	}
	if files > 0 {
		s.log.InfoContext(ctx, "removed what was never filed", "files", files, "bytes", bytes)
	}
	return first
}

// files are what orphans found.
type files struct {
	orphans []orphan
	// What the files of partials and uploads take that have a row.
	partials map[digest.Digest]int64
	uploads  map[string]int64
}

// orphans finds files without a row, as far as it comes.
func (s *Store) orphans(ctx context.Context) (files, error) {
	found := files{partials: map[digest.Digest]int64{}, uploads: map[string]int64{}}
	err := s.blobs.Walk(ctx, func(d digest.Digest, size func() (int64, error)) error {
		_, err := s.Stat(ctx, d)
		if !errors.Is(err, ErrNotFound) {
			return err // nil: it has a row
		}
		n, err := size()
		if err == nil {
			found.orphans = append(found.orphans, orphan{d: d, size: n})
		}
		return ignoreAbsent(err)
	})
	if err != nil {
		return found, fmt.Errorf("walk blobs: %w", err)
	}
	err = s.blobs.WalkPartials(ctx, func(key string, _, held int64) error {
		if id, upload := strings.CutPrefix(key, uploadPrefix); upload {
			if s.uploads.get(id) == nil {
				found.orphans = append(found.orphans, orphan{key: key, size: held})
			} else {
				found.uploads[id] = held
			}
			return nil
		}
		d := digest.Digest(key)
		if d.Validate() != nil {
			return nil //nolint:nilerr // not ours
		}
		_, err := s.partialRow(ctx, d)
		if err == nil {
			found.partials[d] = held
		} else if errors.Is(err, ErrNotFound) {
			found.orphans = append(found.orphans, orphan{d: d, key: key, size: held})
		}
		return ignoreAbsent(err)
	})
	if err != nil {
		return found, fmt.Errorf("walk partials: %w", err)
	}
	return found, nil
}

func (s *Store) partialRow(ctx context.Context, d digest.Digest) (row PartialRow, err error) {
	err = s.meta.View(ctx, func(tx Tx) (err error) {
		row, err = tx.Partial(d)
		return err
	})
	return row, err
}

// sweep removes o if it is an orphan still.
func (s *Store) sweep(ctx context.Context, o orphan) (gone bool, err error) {
	gone, err = s.ifOrphan(ctx, o, func() error {
		switch {
		case o.upload() != "":
			return s.removeUploadFile(ctx, o.key)
		case o.key != "":
			return s.removePartialFile(ctx, o.d)
		}
		return s.removeBytes(ctx, o.d)
	})
	if gone {
		s.strayGone(o.d, o.key)
	}
	return gone, err
}

// ifOrphan calls remove if o still has no row and nobody is about to give it one,
// and reports whether it succeeded.
func (s *Store) ifOrphan(ctx context.Context, o orphan, remove func() error) (gone bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if id := o.upload(); id != "" {
		if s.uploads.get(id) != nil {
			return false, nil
		}
		err = remove()
		return err == nil, err
	}
	e := s.digests.lockIdle(o.d)
	if e == nil {
		return false, nil
	}
	defer s.digests.unlock(e)
	rowless := s.rowlessBlob
	if o.key != "" {
		rowless = s.rowlessPartial
	}
	if yes, err := rowless(ctx, o.d); !yes || err != nil {
		return false, err
	}
	err = remove()
	return err == nil, err
}

// rowlessBlob reports bytes that nothing says anything about.
func (s *Store) rowlessBlob(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := s.Stat(ctx, d)
	if errors.Is(err, ErrUnreadable) {
		return false, nil // a check files it anew
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err // nil: it has got a row
	}
	kept, err := s.keepHosted(ctx, d)
	return !kept, err
}

// rowlessPartial reports a partial that has no row and that nobody has open.
func (s *Store) rowlessPartial(ctx context.Context, d digest.Digest) (bool, error) {
	if s.partials.isOpen(d) {
		return false, nil
	}
	_, err := s.partialRow(ctx, d)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return false, err
}

// keepHosted reports bytes that a hosted repository has: no crash loses their
// row, and there is no other place to get them from.
func (s *Store) keepHosted(ctx context.Context, d digest.Digest) (kept bool, err error) {
	err = s.meta.View(ctx, func(tx Tx) (err error) {
		kept, err = isHosted(tx, d)
		return err
	})
	if kept {
		s.log.ErrorContext(ctx, "a blob that a hosted repository has lost its row: sociable fsck --repair gives it one", "digest", d)
	}
	return kept, err
}

// checkPartials deletes partials whose bytes are gone, and those of blobs that are
// whole.
func (s *Store) checkPartials(ctx context.Context) error {
	var ds []digest.Digest
	err := s.meta.View(ctx, func(tx Tx) error {
		ds = nil
		return tx.Partials(func(row PartialRow) error {
			ds = append(ds, row.Digest)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read partials: %w", err)
	}
	for _, d := range ds {
		if err := s.checkPartial(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) checkPartial(ctx context.Context, d digest.Digest) error {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	row, err := s.partialRow(ctx, d)
	if errors.Is(err, ErrNotFound) || s.partials.isOpen(d) {
		return nil // promoted meanwhile, or checked when it was opened
	}
	if err != nil {
		return err
	}
	if _, err := s.Stat(ctx, d); err == nil {
		s.dropNeedless(ctx, e)
		return nil
	}
	f, err := s.blobs.OpenPartial(ctx, d.String())
	if err != nil {
		return err
	}
	if !reaches(f, row.Have) {
		err = errors.Join(s.dropPartialRow(ctx, d), f.Remove())
	}
	return errors.Join(err, f.Close())
}
