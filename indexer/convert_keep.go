package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// keepConversion stores what was made, its index last: with it come the rows by
// which it is found.
func (x *Indexer) keepConversion(ctx context.Context, repo oci.Repo, p *conversionPlan, out Converted) error {
	now := x.now().UTC()
	if err := x.putEmptyConfig(ctx, now); err != nil {
		return err
	}
	if err := x.putConvertedPrefetch(ctx, p, now); err != nil {
		return err
	}
	row := storage.ConversionRow{
		Repo: repo, Platforms: p.platforms, Settings: p.settings, Created: now, Index: out.Index().Descriptor,
		Source:   v1.Descriptor{MediaType: p.source.Manifest.MediaType, Digest: p.source.Digest, Size: p.source.Size},
		Prefetch: p.convertedPrefetch(),
	}
	for _, m := range out {
		row.Made = append(row.Made, storage.MadeBlob{Digest: m.Descriptor.Digest, Of: m.Of})
	}
	for i, m := range out {
		parsed, err := oci.ParseManifest(m.Body, m.Descriptor.MediaType)
		if err != nil {
			return permanent{err}
		}
		blob := storage.BlobRow{
			Digest: m.Descriptor.Digest, Size: m.Descriptor.Size, Kind: storage.KindIndex, Of: m.Of, Created: now, Accessed: now,
		}
		err = x.store.Put(ctx, blob, m.Body, func(tx storage.Tx) error {
			made := storage.ManifestRow{Digest: m.Descriptor.Digest, Size: m.Descriptor.Size, Manifest: *parsed}
			if i < len(out)-1 {
				return putAhead(tx, made, p.source.Digest, now)
			}
			if err := tx.PutManifest(made); err != nil {
				return err
			}
			return x.fileConversion(tx, repo, p, row)
		})
		if err != nil {
			return fmt.Errorf("store converted manifest %s: %w", m.Descriptor.Digest, err)
		}
	}
	x.m.converted.Inc()
	x.log.InfoContext(ctx, "image converted", "repo", repo.String(), "digest", p.source.Digest, "index", row.Index.Digest,
		"platforms", len(row.Platforms), "tags", len(p.tags))
	return x.considerPushes(ctx, p.source.Digest)
}

// putAhead writes the row of a manifest that a conversion of source is to be made
// of. Until that is filed nothing leads to it, so that it counts as retired: should
// the conversion never be filed, it is removed as what was listed once is.
func putAhead(tx storage.Tx, made storage.ManifestRow, source digest.Digest, now time.Time) error {
	if _, err := tx.Manifest(source); errors.Is(err, storage.ErrNotFound) {
		return errChanged // purged meanwhile
	} else if err != nil {
		return err
	}
	_, err := tx.Manifest(made.Digest)
	if errors.Is(err, storage.ErrNotFound) { // else something leads to it, or it is retired
		err = tx.PutRetired(storage.RetiredRow{Digest: made.Digest, Since: now})
	}
	return errors.Join(err, tx.PutManifest(made))
}

// fileConversion writes the rows of a conversion, unless what it was made by
// has changed.
func (x *Indexer) fileConversion(tx storage.Tx, repo oci.Repo, p *conversionPlan, row storage.ConversionRow) error {
	now, err := x.planConversion(tx, repo, p.source.Digest)
	if err != nil {
		return err
	}
	if now.settings != p.settings {
		return errChanged
	}
	if err := shareConfig(tx, repo); err != nil {
		return err
	}
	for _, m := range row.Made {
		if _, err := tx.Manifest(m.Digest); errors.Is(err, storage.ErrNotFound) {
			return errChanged // purged before it was named
		} else if err != nil {
			return err
		}
		if err := errors.Join(shareMade(tx, repo, m), tx.DeleteRetired(m.Digest)); err != nil {
			return err
		}
	}
	if err := errors.Join(sharePrefetch(tx, repo, &row), now.fileTaken(tx)); err != nil {
		return err
	}
	for _, tag := range now.tags {
		err := tx.PutConvertedTag(storage.ConvertedTagRow{Repo: repo, Tag: tag, Source: row.Source.Digest, Index: row.Index.Digest, Set: row.Created})
		if err != nil {
			return err
		}
	}
	if now.old != nil {
		if err := retireMade(tx, now.old.Made, row.Made, row.Created); err != nil {
			return err
		}
	}
	return tx.PutConversion(row)
}

// shareMade gives repo the right to a manifest whose row says that it was made
// of another one: two images with the same layers have the same SOCI index.
func shareMade(tx storage.Tx, repo oci.Repo, m storage.MadeBlob) error {
	row, err := tx.Blob(m.Digest)
	if errors.Is(err, storage.ErrNotFound) || err == nil && row.Of == m.Of {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.PutRight(repo, m.Digest)
}

// retireMade has what is made no more be readable for a while yet.
func retireMade(tx storage.Tx, old, kept []storage.MadeBlob, now time.Time) error {
	for _, m := range old {
		if slices.ContainsFunc(kept, func(k storage.MadeBlob) bool { return k.Digest == m.Digest }) {
			continue
		}
		if err := tx.PutRetired(storage.RetiredRow{Digest: m.Digest, Since: now}); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes a conversion that no rule wants any more from where it was
// served.
func (x *Indexer) withdraw(ctx context.Context, repo oci.Repo, source digest.Digest) error {
	now := x.now().UTC()
	done := false
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		done = false
		p, err := x.planConversion(tx, repo, source)
		if err != nil || p.old == nil || p.rule != nil || !p.due {
			return err
		}
		done = true
		return dropConversion(tx, p.old, now)
	})
	if err == nil && done {
		x.log.InfoContext(ctx, "converted image withdrawn", "repo", repo.String(), "digest", source)
	}
	return err
}

func dropConversion(tx storage.Tx, row *storage.ConversionRow, now time.Time) error {
	var tags []string
	err := tx.ConvertedTags(func(t storage.ConvertedTagRow) error {
		if t.Repo == row.Repo && t.Source == row.Source.Digest {
			tags = append(tags, t.Tag)
		}
		return nil
	})
	for _, tag := range tags {
		err = errors.Join(err, tx.DeleteConvertedTag(row.Repo, tag))
	}
	return errors.Join(err, retireMade(tx, row.Made, nil, now), tx.DeleteConversion(row.Source.Digest, row.Repo))
}
