package storage

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
)

// WithdrawIndexes takes the SOCI indexes, v1 and v2, of the manifest or index
// root, and of all that is below it, off what is offered, and says of the images
// that none is wanted. It gives those that were; they stay readable by digest
// until they were retired for long enough.
func WithdrawIndexes(tx Tx, root digest.Digest, now time.Time) (gone []digest.Digest, err error) {
	all, err := Below(tx, root)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		var made []ConversionRow
		if err := tx.Conversions(d, func(row ConversionRow) error { made = append(made, row); return nil }); err != nil {
			return nil, err
		}
		for _, row := range made {
			gone = append(gone, row.Index.Digest)
			err := unconvert(tx, d, row.Index.Digest)
			for _, m := range row.Made {
				err = errors.Join(err, tx.PutRetired(RetiredRow{Digest: m.Digest, Since: now}))
			}
			if err != nil {
				return nil, err
			}
		}
		img, err := tx.Image(d)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if img.Index != "" {
			gone = append(gone, img.Index)
			err := errors.Join(tx.DeleteReferrer(d, img.Index), tx.PutRetired(RetiredRow{Digest: img.Index, Since: now}))
			if err != nil {
				return nil, err
			}
		}
		if img.Learned != nil {
			if err := tx.PutRetired(RetiredRow{Digest: img.Learned.Index, Since: now}); err != nil {
				return nil, err
			}
		}
		img.Withdrawn, img.Learned, img.Index, img.IndexSize, img.Published = true, nil, "", 0, time.Time{}
		if err := tx.PutImage(img); err != nil {
			return nil, err
		}
	}
	return gone, nil
}
