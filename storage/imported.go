package storage

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// hot judges spans that came in a bundle: those of a layer that is whole here,
// or that nothing names, go.
func (g *collection) hot(tx Tx, row BlobRow, unused time.Duration) (fate, string, error) {
	if unused <= g.c.o.Grace { // an import may be about to name it
		return stays, "", nil
	}
	imported, err := tx.Imported(row.Of)
	if errors.Is(err, ErrNotFound) || err == nil && imported.Blob != row.Digest {
		return goes, "no image needs it", nil
	}
	if err != nil {
		return stays, "", err
	}
	if g.dry {
		if has, err := g.hasImage(tx, row.Of); err != nil || !has {
			return goes, "no image needs it", err
		}
	}
	if _, err := tx.Blob(row.Of); err != nil {
		return stays, "", ignoreAbsent(err)
	}
	return goes, "its layer is here as a whole", nil
}

// forgetImported deletes the row of hot spans that go.
func forgetImported(tx Tx, row BlobRow) error {
	imported, err := tx.Imported(row.Of)
	if err != nil || imported.Blob != row.Digest {
		return ignoreAbsent(err)
	}
	return tx.DeleteImported(row.Of)
}

// importedZTOC reports whether a zTOC came in a bundle for a layer that is not
// indexed here yet.
func importedZTOC(tx Tx, row BlobRow) (bool, error) {
	imported, err := tx.Imported(row.Of)
	return err == nil && imported.ZTOC == row.Digest, ignoreAbsent(err)
}

// ReadSpans gives the numbers of the spans of an indexed layer that clients have
// read, out of the whole layer or one by one, in order. ErrNotFound where it is
// not indexed at that span size.
func (s *Store) ReadSpans(ctx context.Context, layer digest.Digest, spanSize int64) (read []int, err error) {
	if err := s.fileHeat(ctx); err != nil {
		return nil, err
	}
	err = s.meta.View(ctx, func(tx Tx) error {
		read = nil
		table, err := tableOf(tx, layer, spanSize)
		if err != nil {
			return err
		}
		heat, err := tx.Heat(layer, spanSize)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		for i := range table.Len() {
			hot := i < len(heat.Spans) && heat.Spans[i].Reads > 0
			if !hot {
				_, err := tx.Blob(table.Span(i).Digest)
				if err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				hot = err == nil
			}
			if hot {
				read = append(read, i)
			}
		}
		return nil
	})
	return read, err
}

// addImported plans for spans of the layer d to go that came in a bundle, and for
// their zTOC.
func (p *imagePurge) addImported(tx Tx, d digest.Digest) error {
	row, err := tx.Imported(d)
	if err != nil {
		return ignoreAbsent(err)
	}
	p.imported = append(p.imported, d)
	p.blobs = append(p.blobs, row.Blob)
	blob, err := tx.Blob(row.ZTOC)
	if err == nil && blob.Of == d && !slices.Contains(p.made, row.ZTOC) {
		p.made = append(p.made, row.ZTOC)
	}
	return ignoreAbsent(err)
}
