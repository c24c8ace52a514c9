package web

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// waitsFor says what a layer waits for that is wanted, and that is not here; "" where
// that is the next pull, or its turn. offered tells that its image has an index.
func waitsFor(tx storage.Tx, d digest.Digest, spanSize int64, offered bool) (string, error) {
	if _, err := tx.Blob(d); !errors.Is(err, storage.ErrNotFound) {
		return "", err
	}
	if _, err := tx.Imported(d); err == nil && offered {
		return "its spans came in a bundle, and it is indexed once it is here whole", nil
	} else if ignoreNotFound(err) != nil {
		return "", err
	}
	switch job, err := tx.Job(d, spanSize); {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return "", err
	case !job.Fetch: // of no use without the layer
	case job.Failed || job.Cancelled:
		return "not here, and its job was given up: see sociable jobs list", nil
	default:
		return "not here: fetched when clients leave time for it, see sociable jobs list", nil
	}
	other := false
	err := tx.Layers(d, func(row storage.LayerRow) error {
		other = other || row.State == storage.LayerIndexed
		return nil
	})
	if err != nil || !other {
		return "", err
	}
	return "evicted, and indexed in other spans until somebody pulls it whole, or sociable index create has it fetched", nil
}
