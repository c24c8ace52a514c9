package bolt

import (
	"fmt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func (t tx) PutMissing(row storage.MissingRow) error {
	key, err := tagKey(row.Repo, row.Reference)
	if err != nil {
		return err
	}
	return t.put(bucketMissing, key, row)
}

func (t tx) Missing(repo oci.Repo, reference string) (row storage.MissingRow, err error) {
	key, err := tagKey(repo, reference)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketMissing, key, &row, func() string { return fmt.Sprintf("missing %s of %s", reference, repo) })
}

func (t tx) DeleteMissing(repo oci.Repo, reference string) error {
	key, err := tagKey(repo, reference)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketMissing).Delete(key)
}

func (t tx) AllMissing(fn func(storage.MissingRow) error) error {
	return scanRows(t, bucketMissing, nil, fn)
}
