package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// missized looks at a blob of which the row says another size than its file has. It
// reports whether the file is right, so that the row is not, which it tells.
func (c *check) missized(ctx context.Context, d digest.Digest) (told bool, err error) {
	b, err := c.s.blobs.Open(ctx, d)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	got, err := c.digest(ctx, b, d.Algorithm())
	if err = errors.Join(err, b.Close()); ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil || got != d {
		return false, nil //nolint:nilerr // whoever looks again tells
	}
	return true, c.found(ctx, ProblemRow, d, func() error { return c.s.resize(ctx, d) },
		"its row says another size than its %d bytes have, and these are right", b.Size())
}

// resize is resizeLocked of a blob that the caller has not locked.
func (s *Store) resize(ctx context.Context, d digest.Digest) error {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	_, err = s.resizeLocked(ctx, e)
	return err
}

// resizeLocked has the row of e's blob say the size of its file, if that holds what
// its name says. The caller has e locked.
func (s *Store) resizeLocked(ctx context.Context, e *entry) (right bool, err error) {
	row, err := s.Stat(ctx, e.d)
	if err != nil || s.digests.pendingOf(e.d) != nil {
		return false, ignoreAbsent(err)
	}
	if right, err = s.isRight(ctx, e.d); !right || err != nil {
		return false, err
	}
	b, err := s.blobs.Open(ctx, e.d)
	if err != nil {
		return false, err
	}
	was := row
	if row.Size = b.Size(); row.Size == was.Size {
		return true, b.Close()
	}
	if err := errors.Join(b.Close(), s.replaceRow(ctx, was, row, nil)); err != nil {
		return false, err
	}
	return true, nil
}

// replaceRow puts row in the place of was, of a blob that is locked, and more with it.
func (s *Store) replaceRow(ctx context.Context, was, row BlobRow, more func(Tx) error) error {
	err := s.meta.Update(ctx, func(tx Tx) error {
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		return tx.PutBlob(row)
	})
	if err != nil {
		return fmt.Errorf("put the row of %s right: %w", row.Digest, err)
	}
	s.uncount(was)
	s.space.add(row.Kind, row.Size, 1)
	return nil
}

// kinds compares what rows of blobs say that these are with the rows that name them: as
// something less they might be evicted, or not be listed.
func (c *check) kinds(ctx context.Context) error {
	wrong := map[digest.Digest]BlobRow{}
	err := c.s.meta.View(ctx, func(tx Tx) error {
		clear(wrong)
		return eachKind(tx, func(want BlobRow) error {
			row, err := tx.Blob(want.Digest)
			if err == nil && c.s.digests.pendingOf(want.Digest) == nil && rank(row.Kind) < max(rank(want.Kind), rank(wrong[want.Digest].Kind)) {
				wrong[want.Digest] = want
			}
			return errors.Join(ignoreAbsent(err), ctx.Err())
		})
	})
	if err != nil {
		return fmt.Errorf("compare kinds of blobs: %w", err)
	}
	for d, want := range wrong {
		err := c.found(ctx, ProblemRow, d, func() error { return c.s.identifyAgain(ctx, d) }, "its row does not say that it is of kind %s", want.Kind)
		if err != nil {
			return err
		}
	}
	return nil
}

// eachKind calls fn with what rows say of the blobs that they name.
func eachKind(tx Tx, fn func(BlobRow) error) error {
	return errors.Join(
		tx.AllContents(func(row ContentRow) error { return fn(BlobRow{Digest: row.Digest, Kind: KindHosted}) }),
		tx.Manifests(func(row ManifestRow) error { return fn(BlobRow{Digest: row.Digest, Kind: KindManifest}) }),
		tx.AllLayers(func(row LayerRow) error {
			if row.State != LayerIndexed {
				return nil
			}
			return fn(BlobRow{Digest: row.ZTOC, Kind: KindZTOC})
		}),
		tx.AllReferrers(func(row ReferrerRow) error {
			if row.Repo != (oci.Repo{}) {
				return nil
			}
			return fn(BlobRow{Digest: row.Descriptor.Digest, Kind: KindIndex})
		}),
	)
}

// identifyAgain has the row of a blob say what it is, as fileFound finds it out.
func (s *Store) identifyAgain(ctx context.Context, d digest.Digest) error {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	if s.digests.pendingOf(d) != nil {
		return nil
	}
	b, row, err := s.openRow(ctx, d)
	if err != nil {
		return ignoreAbsent(err)
	}
	u := unfiled{BlobRow: BlobRow{Digest: d, Size: row.Size, Kind: KindBlob}, manifest: manifestIn(b, d)}
	err = errors.Join(b.Close(), s.meta.View(ctx, func(tx Tx) error { return identify(ctx, tx, map[digest.Digest]*unfiled{d: &u}) }))
	if err != nil {
		return err
	}
	was := row
	row.Kind, row.Of = u.Kind, u.Of
	return s.replaceRow(ctx, was, row, func(tx Tx) error {
		if u.manifest == nil {
			return nil
		}
		return tx.PutManifest(*u.manifest)
	})
}

// noZTOC tells of a blob that its row says to be a zTOC, and that is none.
func (c *check) noZTOC(ctx context.Context, row BlobRow, parse error) error {
	return c.found(ctx, ProblemRow, row.Digest, func() error { return c.s.identifyAgain(ctx, row.Digest) },
		"its row says that it is a zTOC of %s, and it is none: %s", row.Of, parse)
}
