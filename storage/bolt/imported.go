package bolt

import (
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func (t tx) PutImported(row storage.ImportedRow) error {
	key, err := digestKey(row.Layer)
	if err != nil {
		return err
	}
	return t.put(bucketImported, key, row)
}

func (t tx) Imported(layer digest.Digest) (row storage.ImportedRow, err error) {
	key, err := digestKey(layer)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketImported, key, &row, func() string { return "imported spans of " + layer.String() })
}

func (t tx) DeleteImported(layer digest.Digest) error {
	key, err := digestKey(layer)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketImported).Delete(key)
}

func (t tx) AllImported(fn func(storage.ImportedRow) error) error {
	return scanRows(t, bucketImported, nil, fn)
}
