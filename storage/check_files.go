package storage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// unfiled is a file without a row whose bytes are right.
type unfiled struct {
	BlobRow
	manifest *ManifestRow // where it is one
	pushed   bool         // to a hosted repository: no crash leaves it without a row
}

// files looks for files without a row.
func (c *check) files(ctx context.Context) error {
	err := c.s.blobs.Walk(ctx, func(d digest.Digest, _ func() (int64, error)) error {
		if _, err := c.s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
			return err // nil: it has a row
		}
		e, err := c.s.digests.lock(ctx, d) // waits for who is about to make it known
		if err != nil {
			return err
		}
		_, err = c.s.Stat(ctx, d)
		c.s.digests.unlock(e)
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := c.file(ctx, d); err != nil || len(c.unfiled) < page {
			return err
		}
		return c.fileAll(ctx)
	})
	if err != nil {
		return fmt.Errorf("walk blobs: %w", err)
	}
	return c.fileAll(ctx)
}

// file compares a file without a row with its digest.
func (c *check) file(ctx context.Context, d digest.Digest) error {
	o := c.s.digests.opened(d) // so that no sweep takes it
	defer c.s.closed(o)
	b, err := c.s.blobs.Open(ctx, d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer b.Close()
	got, err := c.digest(ctx, b, d.Algorithm())
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && got == d {
		row := BlobRow{Digest: d, Size: b.Size(), Kind: KindBlob}
		c.unfiled = append(c.unfiled, unfiled{BlobRow: row, manifest: manifestIn(b, d)})
		return nil
	}
	if _, err := c.s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
		return err // it was being stored meanwhile
	}
	tell := c.left
	if hosted, err := c.s.hostedBlob(ctx, d); err != nil {
		return err
	} else if hosted {
		tell = c.found
	}
	return tell(ctx, ProblemGarbage, d, func() error { return c.s.quarantineFile(ctx, d) },
		"a file of %d bytes without a row, and they are not what its name says", b.Size())
}

// quarantineFile puts a file aside that has no row.
func (s *Store) quarantineFile(ctx context.Context, d digest.Digest) error {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	if _, err := s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := s.blobs.Quarantine(ctx, d); err != nil {
		return ignoreAbsent(err)
	}
	s.strayGone(d, "")
	s.countQuarantined(context.WithoutCancel(ctx)) // it is there, whoever has left
	return nil
}

// manifestIn reads a blob as a manifest; nil where it is none.
func manifestIn(b Blob, d digest.Digest) *ManifestRow {
	if b.Size() > oci.MaxManifestBytes || b.Size() < 2 {
		return nil
	}
	var first [1]byte
	if n, _ := b.ReadAt(first[:], 0); n == 0 || first[0] != '{' {
		return nil
	}
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return nil
	}
	m, err := oci.ParseManifest(body, "")
	if err != nil || m.Config == nil && !m.IsIndex() {
		return nil
	}
	return &ManifestRow{Digest: d, Size: b.Size(), Manifest: *m}
}

// fileAll gives rows to what was found without. What they are is said by the
// rows that name them, and else by their content.
func (c *check) fileAll(ctx context.Context) error {
	if len(c.unfiled) == 0 {
		return nil
	}
	by := make(map[digest.Digest]*unfiled, len(c.unfiled))
	for i := range c.unfiled {
		by[c.unfiled[i].Digest] = &c.unfiled[i]
	}
	if err := c.s.meta.View(ctx, func(tx Tx) error { return identify(ctx, tx, by) }); err != nil {
		return fmt.Errorf("look up what is without a row: %w", err)
	}
	for i := range c.unfiled {
		u := &c.unfiled[i]
		tell := c.left
		if u.pushed {
			tell = c.found
		}
		err := tell(ctx, ProblemUnfiled, u.Digest, func() error { return c.s.fileFound(ctx, u) },
			"a file of %d bytes without a row: a %s", u.Size, u.Kind)
		if err != nil {
			return err
		}
	}
	c.unfiled = c.unfiled[:0]
	return nil
}

// identify sets Kind and Of of each.
func identify(ctx context.Context, tx Tx, by map[digest.Digest]*unfiled) error {
	for _, u := range by {
		if err := u.identify(tx); err != nil {
			return err
		}
	}
	err := tx.AllLayers(func(row LayerRow) error {
		if row.State != LayerIndexed {
			return ctx.Err()
		}
		if u := by[row.ZTOC]; u != nil {
			u.Kind, u.Of = KindZTOC, row.Digest
		}
		table, err := tableOf(tx, row.Digest, row.SpanSize)
		if err != nil {
			return nil //nolint:nilerr // reported where tables are compared
		}
		for i := range table.Len() {
			if u := by[table.Span(i).Digest]; u != nil && u.Kind == KindBlob {
				u.Kind, u.Of = KindSpan, row.Digest
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	err = tx.AllImported(func(row ImportedRow) error {
		if u := by[row.Blob]; u != nil {
			u.Kind, u.Of = KindHot, row.Layer
		}
		if u := by[row.ZTOC]; u != nil && u.Kind != KindZTOC {
			u.Kind, u.Of = KindZTOC, row.Layer
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return tx.AllReferrers(func(row ReferrerRow) error {
		u := by[row.Descriptor.Digest]
		if u != nil && u.manifest != nil && row.Repo == (oci.Repo{}) { // others were pushed
			u.Kind, u.Of = KindIndex, row.Subject
		}
		return nil
	})
}

// identify tells what u is by the rows that have its digest. What a hosted
// repository has is what it was pushed as: a blob may read like a manifest.
func (u *unfiled) identify(tx Tx) (err error) {
	u.Kind, u.Of = KindBlob, ""
	if u.pushed, err = isHosted(tx, u.Digest); err != nil {
		return err
	}
	if row, err := tx.Manifest(u.Digest); err == nil {
		u.manifest = &row // knows its media type from the push
	} else if !errors.Is(err, ErrNotFound) {
		return err
	} else if err := u.hosted(tx); err != nil {
		return err
	}
	switch {
	case u.manifest != nil:
		u.Kind = KindManifest
	case u.pushed:
		u.Kind = KindHosted
	}
	return nil
}

// hosted forgets that u reads like a manifest where it was pushed as a blob only.
func (u *unfiled) hosted(tx Tx) error {
	var repos []oci.Repo
	err := tx.ContentOf(u.Digest, func(repo oci.Repo) error {
		repos = append(repos, repo)
		return nil
	})
	for _, repo := range repos {
		row, cerr := tx.Content(repo, u.Digest)
		if errors.Is(cerr, ErrNotFound) { // its row can't be read, and what it said is not known
			return nil
		}
		if err = errors.Join(err, cerr); err != nil || row.Manifest {
			return err
		}
	}
	if len(repos) > 0 {
		u.manifest = nil
	}
	return err
}

// fileFound gives one file its row, unless it has got one, or is gone.
func (s *Store) fileFound(ctx context.Context, u *unfiled) error {
	e, err := s.digests.lock(ctx, u.Digest)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	if _, err := s.Stat(ctx, u.Digest); !errors.Is(err, ErrNotFound) {
		return err
	}
	b, err := s.blobs.Open(ctx, u.Digest)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.Close(); err != nil || b.Size() != u.Size {
		return err
	}
	if err := s.blobs.Sync(ctx, u.Digest); err != nil {
		return err
	}
	row := s.stamp(u.BlobRow)
	err = s.meta.Update(ctx, func(tx Tx) error {
		if err := putBlob(tx, row); err != nil || u.manifest == nil {
			return err
		}
		return tx.PutManifest(*u.manifest)
	})
	if err == nil {
		s.space.add(row.Kind, row.Size, 1)
		s.strayGone(u.Digest, "")
	}
	return err
}
