package bolt

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func (t tx) PutBlob(row storage.BlobRow) error {
	key, err := digestKey(row.Digest)
	if err != nil {
		return err
	}
	v, err := encodeBlobRow(row)
	if err != nil {
		return fmt.Errorf("put blob %s: %w", row.Digest, err)
	}
	return t.t.Bucket(bucketBlobs).Put(key, v)
}

func (t tx) Blob(d digest.Digest) (storage.BlobRow, error) {
	key, err := digestKey(d)
	if err != nil {
		return storage.BlobRow{}, err
	}
	v := t.t.Bucket(bucketBlobs).Get(key)
	if v == nil {
		return storage.BlobRow{}, fmt.Errorf("blob %s: %w", d, storage.ErrNotFound)
	}
	row, err := decodeBlobRow(d, v)
	if err != nil {
		return storage.BlobRow{}, fmt.Errorf("blob %s: %w", d, t.unreadable(bucketBlobs, key, err))
	}
	return row, nil
}

func (t tx) DeleteBlob(d digest.Digest) error {
	key, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketBlobs).Delete(key)
}

// Touch goes through at in the order of the keys, so that rows that share a
// page are written together.
func (t tx) Touch(at map[digest.Digest]time.Time) error {
	ds := make([]digest.Digest, 0, len(at))
	for d := range at {
		ds = append(ds, d)
	}
	slices.Sort(ds)
	for _, d := range ds {
		row, err := t.Blob(d)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		row.Accessed = at[d]
		if err := t.PutBlob(row); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) Blobs(fn func(storage.BlobRow) error) error { return t.blobsFrom(nil, fn) }

func (t tx) BlobsAfter(last digest.Digest, fn func(storage.BlobRow) error) error {
	key, err := digestKey(last)
	if err != nil {
		return err
	}
	return t.blobsFrom(append(key, 0), fn) // the first key after last's own
}

func (t tx) blobsFrom(from []byte, fn func(storage.BlobRow) error) error {
	return t.scan(bucketBlobs, nil, from, func(k, v []byte) error {
		d, err := wholeDigest(k)
		var row storage.BlobRow
		if err == nil {
			row, err = decodeBlobRow(d, v)
		}
		if err != nil {
			return t.skip(bucketBlobs, k, err)
		}
		return fn(row)
	})
}

func (t tx) PutPartial(row storage.PartialRow) error {
	key, err := digestKey(row.Digest)
	if err != nil {
		return err
	}
	return t.put(bucketPartials, key, row)
}

func (t tx) Partial(d digest.Digest) (row storage.PartialRow, err error) {
	key, err := digestKey(d)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketPartials, key, &row, func() string { return "partial " + d.String() })
}

func (t tx) DeletePartial(d digest.Digest) error {
	key, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketPartials).Delete(key)
}

func (t tx) Partials(fn func(storage.PartialRow) error) error {
	return scanRows(t, bucketPartials, nil, fn)
}
