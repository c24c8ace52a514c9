package indexer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// retirePause is how often it is looked for what is retired long enough.
const retirePause = 10 * time.Minute

// sweep removes what was retired RetireAfter ago, until ctx ends. What a hosted
// repository has, or a pin holds, stays: a storage.Collector takes it when they
// let go of it. It forgets tasks that failed long ago besides.
func (x *Indexer) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := x.removeRetired(ctx); err != nil && ctx.Err() == nil {
			x.log.WarnContext(ctx, "what is retired was not removed", "err", err)
		}
		if err := x.forgetFailed(ctx); err != nil && ctx.Err() == nil {
			x.log.WarnContext(ctx, "what failed long ago was not forgotten", "err", err)
		}
		pause(ctx, min(retirePause, x.opt.RetireAfter))
	}
	return nil
}

// removal is what can go: indexes, and layers that only they were made of.
type removal struct {
	manifests []digest.Digest
	layers    []storage.LayerRow
	again     []digest.Digest // listed again meanwhile
}

func (x *Indexer) removeRetired(ctx context.Context) error {
	var r removal
	err := x.store.View(ctx, func(tx storage.Tx) (err error) {
		r, err = x.removable(tx)
		return err
	})
	if err != nil || len(r.manifests)+len(r.again) == 0 {
		return err
	}
	// Rows first: a zTOC whose layer has no row is wanted by nobody.
	err = x.store.Update(ctx, func(tx storage.Tx) error {
		var errs []error
		for _, l := range r.layers {
			row, err := unusedLayer(tx, key{l.Digest, l.SpanSize}) // still
			if row != nil {
				err = tx.DeleteLayer(l.Digest, l.SpanSize)
			}
			errs = append(errs, err)
		}
		for _, d := range r.again {
			errs = append(errs, tx.DeleteRetired(d))
		}
		return errors.Join(errs...)
	})
	for _, l := range r.layers {
		if err == nil && l.ZTOC != "" {
			_, err = x.store.PurgeUnneeded(ctx, l.ZTOC, func(tx storage.Tx) (bool, error) { return isLayers(tx, l.ZTOC) })
		}
	}
	for _, d := range r.manifests {
		gone := false
		if err == nil {
			gone, err = x.store.PurgeUnneeded(ctx, d, func(tx storage.Tx) (bool, error) { return unretired(tx, d) })
		}
		if err == nil {
			err = x.store.Update(ctx, func(tx storage.Tx) error { return tx.DeleteRetired(d) })
		}
		if err != nil {
			return fmt.Errorf("remove retired index %s: %w", d, err)
		}
		if gone {
			x.log.InfoContext(ctx, "retired index removed", "index", d)
		}
	}
	return err
}

// isLayers reports whether zTOC is that of a layer.
func isLayers(tx storage.Tx, zTOC digest.Digest) (bool, error) {
	err := tx.AllLayers(func(row storage.LayerRow) error {
		if row.ZTOC == zTOC {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return true, nil
	}
	return false, err
}

// unretired reports whether d is retired no more: what is listed again is not.
func unretired(tx storage.Tx, d digest.Digest) (bool, error) {
	err := tx.Retired(func(row storage.RetiredRow) error {
		if row.Digest == d {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return false, nil
	}
	return true, err
}

func (x *Indexer) removable(tx storage.Tx) (r removal, err error) {
	due, later := []digest.Digest(nil), map[digest.Digest]bool{}
	end := x.now().Add(-x.opt.RetireAfter)
	err = tx.Retired(func(row storage.RetiredRow) error {
		if row.Since.After(end) {
			later[row.Digest] = true
		} else {
			due = append(due, row.Digest)
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return r, err
	}
	used, err := inUse(tx)
	if err != nil {
		return r, err
	}
	for d := range later {
		used[d] = true
	}
	zTOCs := map[digest.Digest]bool{} // that what stays names
	for d := range used {
		if err := eachZTOC(tx, d, func(_ key, zTOC digest.Digest) { zTOCs[zTOC] = true }); err != nil {
			return r, err
		}
	}
	seen := map[key]bool{}
	for _, d := range due {
		if used[d] {
			r.again = append(r.again, d)
			continue
		}
		r.manifests = append(r.manifests, d)
		var keys []key
		err := eachZTOC(tx, d, func(k key, zTOC digest.Digest) {
			if !zTOCs[zTOC] && !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		})
		if err != nil {
			return r, err
		}
		for _, k := range keys {
			row, err := unusedLayer(tx, k)
			if err != nil {
				return r, err
			}
			if row != nil {
				r.layers = append(r.layers, *row)
			}
		}
	}
	return r, nil
}

// inUse gives the indexes that are listed, and all that conversions are made of.
func inUse(tx storage.Tx) (map[digest.Digest]bool, error) {
	used := map[digest.Digest]bool{}
	err := tx.Images(func(img storage.ImageRow) error {
		if img.Index != "" {
			used[img.Index] = true
		}
		if img.Learned != nil {
			used[img.Learned.Index] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return used, tx.AllConversions(func(row storage.ConversionRow) error {
		for _, m := range row.Made {
			used[m.Digest] = true
		}
		return nil
	})
}

// eachZTOC calls fn for each zTOC that a SOCI index names. What is no SOCI index
// names none.
func eachZTOC(tx storage.Tx, index digest.Digest, fn func(k key, zTOC digest.Digest)) error {
	row, err := tx.Manifest(index)
	if err != nil {
		return ignoreNotFound(err)
	}
	zTOCsIn(&row.Manifest, fn)
	return nil
}

func zTOCsIn(index *oci.Manifest, fn func(k key, zTOC digest.Digest)) {
	for i := range index.Layers {
		l := &index.Layers[i]
		spanSize, err := strconv.ParseInt(l.Annotations[annotationSpanSize], 10, 64)
		if layer := l.Annotations[annotationLayerDigest]; err == nil && l.MediaType == mediaTypeZTOC && layer != "" {
			fn(key{digest.Digest(layer), spanSize}, l.Digest)
		}
	}
}

// unusedLayer gives the row of k when no image has the layer indexed so.
func unusedLayer(tx storage.Tx, k key) (*storage.LayerRow, error) {
	used := false
	if err := eachUse(tx, k, func(*storage.ImageRow, *storage.ImageLayer) bool { used = true; return false }); err != nil || used {
		return nil, err
	}
	row, err := tx.Layer(k.layer, k.spanSize)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	return &row, nil
}
