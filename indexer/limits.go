package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// Limits bound what a layer may cost that is indexed. One beyond them is left out
// with ReasonTooLarge, and tried again when they are wider.
type Limits storage.Limits

// complete puts defaults in place of what is not said.
func (l Limits) complete() Limits {
	if l.MaxFiles <= 0 {
		l.MaxFiles = 10_000_000
	}
	if l.MaxZTOC <= 0 {
		l.MaxZTOC = 64 << 20
	}
	return l
}

// zTOC is how large the zTOC of a layer of so many bytes may be.
func (l Limits) zTOC(layerSize int64) int64 { return max(l.MaxZTOC, layerSize/4) }

// Options are those of a build within the limits, of a layer of so many bytes, -1
// where that is not known.
func (l Limits) Options(layerSize int64) ztoc.Options {
	l = l.complete()
	return ztoc.Options{
		MaxUncompressed: l.MaxUncompressed, MaxEntries: l.MaxFiles,
		MaxSize: l.zTOC(layerSize), MaxTOCBytes: l.zTOC(layerSize),
	}
}

// Refusal is the reason for leaving out a layer that err, of a builder with
// Options, says has no zTOC when it is read as c.
func (l Limits) Refusal(c ztoc.Compression, err error) string {
	why, word := l.complete().explain(err), ReasonTooLarge
	if why == "" {
		why, word = err.Error(), ReasonMalformed
	}
	return fmt.Sprintf("%s: as %s, %s", word, c, why)
}

// explain says which limit was met, and how it is raised; "" where none was.
func (l Limits) explain(err error) string {
	switch {
	case !errors.Is(err, ztoc.ErrTooLarge):
		return ""
	case errors.Is(err, ztoc.ErrMaxUncompressed):
		return "decompressed it has more than the " + humanize.IBytes(uint64(l.MaxUncompressed)) +
			" of index.max_uncompressed: raise that to have it indexed"
	case errors.Is(err, ztoc.ErrMaxEntries):
		return fmt.Sprintf("it holds more than the %d files of index.max_files: raise that to have it indexed", l.MaxFiles)
	}
	return "its zTOC is larger than the " + humanize.IBytes(uint64(l.MaxZTOC)) +
		" of index.max_ztoc, and than a quarter of the layer: raise index.max_ztoc to have it indexed"
}

// wider reports whether something is within the limits that was not within old.
func (l Limits) wider(old Limits) bool {
	return l.MaxFiles > old.MaxFiles || l.MaxZTOC > old.MaxZTOC ||
		old.MaxUncompressed > 0 && (l.MaxUncompressed <= 0 || l.MaxUncompressed > old.MaxUncompressed)
}

// allow clears a row's reason where limits were it that are wider by now, and
// reports whether it did: then the layer is to be read again.
func (l Limits) allow(row *storage.LayerRow) bool {
	if row.State != storage.LayerSkipped || row.Limits == nil || !l.wider(Limits(*row.Limits)) {
		return false
	}
	row.State, row.Reason, row.Limits = storage.LayerWanted, "", nil
	return true
}

// tryWider wants those layers of an image that were too large for limits of
// another time.
func (x *Indexer) tryWider(ctx context.Context, manifest digest.Digest) error {
	var rows []storage.LayerRow
	look := func(tx storage.Tx) error {
		rows = rows[:0]
		img, err := tx.Image(manifest)
		if err != nil {
			return ignoreNotFound(err)
		}
		for i := range img.Layers {
			l := &img.Layers[i]
			if l.SpanSize == 0 || slices.ContainsFunc(rows, func(r storage.LayerRow) bool { return r.Digest == l.Descriptor.Digest }) {
				continue
			}
			row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
			if err == nil && x.limits.allow(&row) {
				rows = append(rows, row)
			}
			if ignoreNotFound(err) != nil {
				return err
			}
		}
		return nil
	}
	if err := x.store.View(ctx, look); err != nil || len(rows) == 0 {
		return err
	}
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		err := look(tx)
		for _, row := range rows {
			err = errors.Join(err, tx.PutLayer(row))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("want layers of %s again: %w", manifest, err)
	}
	for _, row := range rows {
		x.Whole(row.Digest)
	}
	return nil
}
