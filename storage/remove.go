package storage

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
)

// Purge removes d, row first and then bytes, also what there is of a partial of
// it. Whoever has it open reads on; a partial that is being written is written on for
// those who read it, takes room until it is closed, and can't become the blob; whoever
// opens one from now on has another. freed is the number of bytes that were counted
// for it; what is not there is success.
func (s *Store) Purge(ctx context.Context, d digest.Digest) (freed int64, err error) {
	if err := s.count(ctx); err != nil {
		return 0, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return 0, err
	}
	defer s.digests.unlock(e)
	return s.purgeLocked(ctx, e)
}

// purgeLocked is Purge of e, which the caller has locked.
func (s *Store) purgeLocked(ctx context.Context, e *entry) (freed int64, err error) {
	if err := s.forgetMade(ctx, e.d); err != nil {
		return 0, err
	}
	ofPartial, err := s.removePartialLocked(ctx, e)
	if err != nil {
		return 0, err
	}
	freed, err = s.removeLocked(ctx, e)
	return freed + ofPartial, err
}

// forgetMade has no row go on naming d's bytes as being here: of a manifest, a
// SOCI index or a zTOC.
func (s *Store) forgetMade(ctx context.Context, d digest.Digest) error {
	row, err := s.Stat(ctx, d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || evictable(row.Kind) {
		return err
	}
	return s.meta.Update(ctx, func(tx Tx) error { return forgetRows(tx, row) })
}

func forgetRows(tx Tx, row BlobRow) error {
	switch row.Kind {
	case KindIndex:
		if err := unlist(tx, row.Of, row.Digest); err != nil {
			return err
		}
	case KindZTOC:
		return unindex(tx, row.Digest)
	}
	return loseManifest(tx, row.Digest)
}

// loseManifest deletes the row of a manifest of which the bytes were lost. What is
// known of how its image starts stays as long as the image is known: the manifest
// comes again, and what is made of it then is to be what it was.
func loseManifest(tx Tx, d digest.Digest) error {
	_, err := tx.Image(d)
	if errors.Is(err, ErrNotFound) {
		return tx.DeleteManifest(d)
	}
	taken, noneTaken := tx.Taken(d)
	learnt, noneLearnt := tx.Learn(d)
	err = errors.Join(err, ignoreAbsent(noneTaken), ignoreAbsent(noneLearnt), tx.DeleteManifest(d))
	if err == nil && noneTaken == nil {
		err = tx.PutTaken(taken)
	}
	if err == nil && noneLearnt == nil {
		err = tx.PutLearn(learnt)
	}
	return err
}

// unlist takes the SOCI index of an image off the list of its referrers. When
// its manifest next comes by, or a server starts, the index is published anew.
func unlist(tx Tx, manifest, index digest.Digest) error {
	if manifest == "" {
		return nil
	}
	if err := errors.Join(tx.DeleteReferrer(manifest, index), unconvert(tx, manifest, index)); err != nil {
		return err
	}
	img, err := tx.Image(manifest)
	if errors.Is(err, ErrNotFound) || err == nil && img.Index != index && !img.offers(index) {
		return nil
	}
	if err != nil {
		return err
	}
	img.Learned = nil
	if img.Index == index {
		img.Index, img.IndexSize, img.Published = "", 0, time.Time{}
	}
	return tx.PutImage(img)
}

// unconvert forgets what was made of the image source and has that index: it is
// made anew when there is reason to.
func unconvert(tx Tx, source, index digest.Digest) error {
	var gone []ConversionRow
	err := tx.Conversions(source, func(row ConversionRow) error {
		if row.Index.Digest == index {
			gone = append(gone, row)
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	var tags []ConvertedTagRow
	err = tx.ConvertedTags(func(row ConvertedTagRow) error {
		if row.Index == index {
			tags = append(tags, row)
		}
		return nil
	})
	for _, row := range gone {
		err = errors.Join(err, tx.DeleteConversion(source, row.Repo))
	}
	for _, row := range tags {
		err = errors.Join(err, tx.DeleteConvertedTag(row.Repo, row.Tag))
	}
	return err
}

// unindex has layers wanted again whose zTOC is gone, and takes the indexes that
// name it off their lists.
func unindex(tx Tx, zTOC digest.Digest) error {
	var layers []LayerRow
	err := tx.AllLayers(func(row LayerRow) error {
		if row.State == LayerIndexed && row.ZTOC == zTOC {
			layers = append(layers, row)
		}
		return nil
	})
	for i := range layers {
		err = errors.Join(err, wantAgain(tx, layers[i]))
	}
	return err
}

// wantAgain has an indexed layer be built anew.
func wantAgain(tx Tx, row LayerRow) error {
	var images []ImageRow
	err := tx.ImagesOf(row.Digest, func(img ImageRow) error {
		if img.Index != "" {
			images = append(images, img)
		}
		return nil
	})
	for _, img := range images {
		err = errors.Join(err, unlist(tx, img.Manifest.Digest, img.Index))
	}
	return errors.Join(err, tx.DeleteLayer(row.Digest, row.SpanSize), tx.PutLayer(LayerRow{
		Digest: row.Digest, SpanSize: row.SpanSize, Size: row.Size, State: LayerWanted,
	}))
}

// removeLocked removes e's blob: row, then bytes. The caller has e locked.
func (s *Store) removeLocked(ctx context.Context, e *entry) (freed int64, err error) {
	row, err := s.Stat(ctx, e.d)
	if errors.Is(err, ErrNotFound) {
		return 0, s.removeBytes(ctx, e.d)
	}
	if err != nil {
		return 0, err
	}
	return row.Size, s.forget(ctx, e, row)
}

// forget removes a blob that is counted as row says. When its row can't be
// deleted all stays as it is.
func (s *Store) forget(ctx context.Context, e *entry, row BlobRow) (err error) {
	if p := s.digests.pendingOf(e.d); p == nil || p.rowed {
		var gone bool
		if gone, err = s.deleteRow(ctx, e); !gone {
			return err
		}
	}
	err = errors.Join(err, s.drop(ctx, e, row.Size))
	s.uncount(row)
	return err
}

// lose removes a blob whose bytes can't be trusted, whether or not its row can
// be deleted: should one stay, Open finds it without bytes. The caller uncounts.
func (s *Store) lose(ctx context.Context, e *entry, size int64) error {
	var err error
	if p := s.digests.pendingOf(e.d); p != nil && p.dropPartial { // its bytes were the blob's
		err = s.dropPartialRow(ctx, e.d)
	}
	_, rerr := s.deleteRow(ctx, e)
	return errors.Join(err, rerr, s.drop(ctx, e, size))
}

// deleteRow deletes the row of e's blob. gone says that there is none any more, with
// an error, too: what failed may have been stored all the same.
func (s *Store) deleteRow(ctx context.Context, e *entry) (gone bool, err error) {
	err = s.meta.Update(ctx, func(tx Tx) error { return errors.Join(tx.DeleteBlob(e.d), loseContent(tx, e.d, true)) })
	if err == nil {
		return true, nil
	}
	s.metrics.failed(opRow)
	return s.hasNoRow(ctx, e.d), err
}

// hasNoRow reports that the rows can be read, and d has none. One that is pending is
// none.
func (s *Store) hasNoRow(ctx context.Context, d digest.Digest) bool {
	err := s.meta.View(context.WithoutCancel(ctx), func(tx Tx) error {
		_, err := tx.Blob(d)
		return err
	})
	return errors.Is(err, ErrNotFound)
}

// drop removes the bytes of a blob without a row.
func (s *Store) drop(ctx context.Context, e *entry, size int64) error {
	s.digests.setPending(e, nil)
	err := s.unlink(ctx, e, size)
	s.digests.setBad(e, false) // not before: somebody may have read its row, see OpenRow
	return err
}

// unlink removes the file under e's name. Where it is open its bytes go on
// counting, apart from the blob's, which the caller uncounts after this; so do they
// where it can't be removed.
func (s *Store) unlink(ctx context.Context, e *entry, size int64) error {
	err := s.blobs.Remove(context.WithoutCancel(ctx), e.d)
	if err == nil {
		s.space.keep(s.digests.removed(e, size))
	} else {
		s.leftBehind(e.d, "", size)
	}
	return err
}

// removeBytes removes what has d's name and no row, if there is such a file.
func (s *Store) removeBytes(ctx context.Context, d digest.Digest) error {
	err := s.blobs.Remove(ctx, d)
	if err == nil {
		s.strayGone(d, "")
	}
	return err
}

func (s *Store) uncount(row BlobRow) { s.space.add(row.Kind, -row.Size, -1) }
