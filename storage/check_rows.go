package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/ztoc"
)

// partials compares the rows of partials with their files.
func (c *check) partials(ctx context.Context) error {
	sizes, uploads := map[digest.Digest]int64{}, map[string]int64{}
	err := c.s.blobs.WalkPartials(ctx, func(key string, size, _ int64) error {
		if d := digest.Digest(key); d.Validate() == nil {
			sizes[d] = size
		} else if id, ok := strings.CutPrefix(key, uploadPrefix); ok && c.s.uploads.get(id) == nil && !c.s.partials.isBeside(key) {
			uploads[key] = size
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("walk partials: %w", err)
	}
	if err := c.leftUploads(ctx, uploads); err != nil {
		return err
	}
	rows := map[digest.Digest]bool{}
	short := map[digest.Digest]int64{}
	err = c.s.meta.View(ctx, func(tx Tx) error {
		return tx.Partials(func(row PartialRow) error {
			rows[row.Digest] = true
			size, there := sizes[row.Digest]
			if n := len(row.Have); n > 0 && (!there || size < row.Have[n-1].End) {
				short[row.Digest] = size
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("read partials: %w", err)
	}
	if err := c.shortPartials(ctx, sizes, short); err != nil {
		return err
	}
	return c.strayPartials(ctx, sizes, rows)
}

// shortPartials reports rows that say more than the file of their partial has: short
// are those files' sizes, 0 for one that is not there.
func (c *check) shortPartials(ctx context.Context, sizes, short map[digest.Digest]int64) error {
	for d, size := range short {
		if p := c.s.digests.pendingOf(d); c.s.partials.isOpen(d) || p != nil && p.dropPartial { // it is a blob, and its row about to say so
			continue
		}
		if _, err := c.s.partialRow(ctx, d); err != nil { // it just did
			if errors.Is(err, ErrNotFound) {
				continue
			}
			return err
		}
		tell := c.found
		if _, there := sizes[d]; !there { // its name was to be a blob's when a crash came
			tell = c.left
		}
		err := tell(ctx, ProblemPartial, d, func() error { return c.s.checkPartial(ctx, d) },
			"its row says that it has more than the %d bytes that are there", size)
		if err != nil {
			return err
		}
	}
	return nil
}

// strayPartials reports files of partials that have no row.
func (c *check) strayPartials(ctx context.Context, sizes map[digest.Digest]int64, rows map[digest.Digest]bool) error {
	for d, size := range sizes {
		if rows[d] || c.s.partials.isOpen(d) {
			continue
		}
		if _, err := c.s.partialRow(ctx, d); !errors.Is(err, ErrNotFound) {
			if err != nil {
				return err
			}
			continue // begun meanwhile
		}
		mend := func() error {
			return c.s.sweepAll(ctx, []orphan{{d: d, key: d.String(), size: size}})
		}
		if err := c.left(ctx, ProblemLeftover, d, mend, "a partial file of %d bytes without a row", size); err != nil {
			return err
		}
	}
	return nil
}

// leftUploads reports files of uploads that there are no more.
func (c *check) leftUploads(ctx context.Context, sizes map[string]int64) error {
	for _, key := range slices.Sorted(maps.Keys(sizes)) {
		mend := func() error { return c.s.sweepAll(ctx, []orphan{{key: key, size: sizes[key]}}) }
		err := c.left(ctx, ProblemLeftover, "", mend, "%s, a file of %d bytes of an upload that is over", key, sizes[key])
		if err != nil {
			return err
		}
	}
	return nil
}

// layerKey names a layer's row.
type layerKey struct {
	d        digest.Digest
	spanSize int64
}

// layers compares span tables with their zTOCs.
func (c *check) layers(ctx context.Context) error {
	var keys []layerKey
	err := c.s.meta.View(ctx, func(tx Tx) error {
		keys = nil
		return tx.AllLayers(func(row LayerRow) error {
			if row.State == LayerIndexed {
				keys = append(keys, layerKey{row.Digest, row.SpanSize})
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("read layers: %w", err)
	}
	for _, k := range keys {
		if err := c.layer(ctx, k); err != nil {
			return err
		}
		c.report.Layers++
	}
	return nil
}

func (c *check) layer(ctx context.Context, k layerKey) error {
	var row LayerRow
	var have []byte
	err := c.s.meta.View(ctx, func(tx Tx) (err error) {
		if row, err = tx.Layer(k.d, k.spanSize); err != nil {
			return err
		}
		if have, err = tx.Spans(k.d, k.spanSize); errors.Is(err, ErrNotFound) {
			have, err = nil, nil
		}
		return err
	})
	if errors.Is(err, ErrNotFound) || err == nil && row.State != LayerIndexed {
		return nil // purged meanwhile, or wanted again
	}
	if err != nil {
		return err
	}
	want, size, err := c.tableOfZTOC(ctx, row.ZTOC)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil || size != row.Size {
		again := func() error { return c.s.meta.Update(ctx, func(tx Tx) error { return wantAgain(tx, row) }) }
		if err == nil {
			err = fmt.Errorf("it is of a layer of %d bytes, this one has %d", size, row.Size)
		}
		return c.found(ctx, ProblemZTOC, k.d, again, "zTOC %s: %s", row.ZTOC, err)
	}
	if bytes.Equal(want, have) {
		return nil
	}
	put := func() error {
		return c.s.meta.Update(ctx, func(tx Tx) error { return tx.PutSpans(k.d, k.spanSize, want) })
	}
	return c.found(ctx, ProblemSpans, k.d, put, "its span table is not that of its zTOC %s", row.ZTOC)
}

// tableOfZTOC reads the span table, as it is filed, and the layer's size.
func (c *check) tableOfZTOC(ctx context.Context, d digest.Digest) (table []byte, size int64, err error) {
	o := c.s.digests.opened(d)
	defer c.s.closed(o)
	b, _, err := c.s.openRow(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	defer b.Close()
	z, err := ztoc.Parse(b, b.Size())
	if err != nil {
		return nil, 0, err
	}
	t, err := z.Table()
	if err != nil {
		return nil, 0, err
	}
	table, err = t.MarshalBinary()
	return table, t.LayerSize(), err
}

// manifests looks for rows of manifests without their bytes.
func (c *check) manifests(ctx context.Context) error {
	return c.dangling(ctx, ProblemManifest, "its bytes are not here",
		func(tx Tx, add func(digest.Digest, func(Tx) error)) error {
			return tx.Manifests(func(row ManifestRow) error {
				here, err := isHere(tx, row.Digest)
				if err == nil && !here {
					add(row.Digest, func(tx Tx) error { return loseManifest(tx, row.Digest) })
				}
				return errors.Join(err, ctx.Err())
			})
		})
}

// lists looks for SOCI indexes that are listed and not here, or the reverse.
func (c *check) lists(ctx context.Context) error {
	err := c.dangling(ctx, ProblemReferrer, "a list of referrers names an index that is not here",
		func(tx Tx, add func(digest.Digest, func(Tx) error)) error {
			return tx.AllReferrers(func(row ReferrerRow) error {
				here, err := isHere(tx, row.Descriptor.Digest)
				if err == nil && !here {
					add(row.Descriptor.Digest, func(tx Tx) error { return unlist(tx, row.Subject, row.Descriptor.Digest) })
				}
				return errors.Join(err, ctx.Err())
			})
		})
	if err != nil {
		return err
	}
	return c.dangling(ctx, ProblemImage, "its index is not here, or not listed",
		func(tx Tx, add func(digest.Digest, func(Tx) error)) error {
			return tx.Images(func(row ImageRow) error {
				if row.Learned != nil {
					here, err := learnedHere(tx, row.Learned)
					if err != nil {
						return err
					}
					if !here {
						add(row.Manifest.Digest, func(tx Tx) error { return unlist(tx, row.Manifest.Digest, row.Learned.Index) })
					}
				}
				if row.Index == "" {
					return ctx.Err()
				}
				here, err := isHere(tx, row.Index)
				listed := false
				err = errors.Join(err, tx.Referrers(row.Manifest.Digest, func(r ReferrerRow) error {
					listed = listed || r.Descriptor.Digest == row.Index
					return nil
				}))
				if err == nil && (!here || !listed) {
					add(row.Manifest.Digest, func(tx Tx) error { return unlist(tx, row.Manifest.Digest, row.Index) })
				}
				return errors.Join(err, ctx.Err())
			})
		})
}

// dangling reports what look adds, each with what is to be done about it.
func (c *check) dangling(ctx context.Context, kind ProblemKind, detail string,
	look func(tx Tx, add func(d digest.Digest, mend func(Tx) error)) error) error {
	type dangler struct {
		d    digest.Digest
		mend func(Tx) error
	}
	var list []dangler
	err := c.s.meta.View(ctx, func(tx Tx) error {
		list = nil
		return look(tx, func(d digest.Digest, mend func(Tx) error) { list = append(list, dangler{d, mend}) })
	})
	if err != nil {
		return fmt.Errorf("compare rows: %w", err)
	}
	for _, x := range list {
		if err := c.found(ctx, kind, x.d, func() error { return c.s.meta.Update(ctx, x.mend) }, "%s", detail); err != nil {
			return err
		}
	}
	return nil
}

// isHere reports whether d has the rows of a manifest and of its bytes.
func isHere(tx Tx, d digest.Digest) (bool, error) {
	_, err := tx.Blob(d)
	if err == nil {
		_, err = tx.Manifest(d)
	}
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
