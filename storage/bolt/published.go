package bolt

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func (t tx) PutPublished(row storage.PublishedRow) error {
	key, err := referrerKey(row.Repo, row.Subject, row.Index)
	if err != nil {
		return err
	}
	return t.put(bucketPublished, key, row)
}

func (t tx) Published(repo oci.Repo, subject, index digest.Digest) (row storage.PublishedRow, err error) {
	key, err := referrerKey(repo, subject, index)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketPublished, key, &row, func() string { return fmt.Sprintf("publication of %s in %s", index, repo) })
}

func (t tx) DeletePublished(repo oci.Repo, subject, index digest.Digest) error {
	key, err := referrerKey(repo, subject, index)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketPublished).Delete(key)
}

func (t tx) PublishedOf(subject digest.Digest, fn func(storage.PublishedRow) error) error {
	prefix, err := digestKey(subject)
	if err != nil {
		return err
	}
	return scanRows(t, bucketPublished, prefix, fn)
}

func (t tx) AllPublished(fn func(storage.PublishedRow) error) error {
	return scanRows(t, bucketPublished, nil, fn)
}
