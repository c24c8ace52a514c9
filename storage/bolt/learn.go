package bolt

import (
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func (t tx) PutLearn(row storage.LearnRow) error {
	key, err := digestKey(row.Manifest)
	if err != nil {
		return err
	}
	return t.put(bucketLearn, key, row)
}

func (t tx) Learn(manifest digest.Digest) (row storage.LearnRow, err error) {
	key, err := digestKey(manifest)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketLearn, key, &row, func() string { return "what was learnt of " + manifest.String() })
}

func (t tx) DeleteLearn(manifest digest.Digest) error {
	key, err := digestKey(manifest)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketLearn).Delete(key)
}

func (t tx) AllLearn(fn func(storage.LearnRow) error) error {
	return scanRows(t, bucketLearn, nil, fn)
}

func (t tx) PutTaken(row storage.TakenRow) error {
	key, err := digestKey(row.Manifest)
	if err != nil {
		return err
	}
	return t.put(bucketTaken, key, row)
}

func (t tx) Taken(manifest digest.Digest) (row storage.TakenRow, err error) {
	key, err := digestKey(manifest)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketTaken, key, &row, func() string { return "what conversions took of the starts of " + manifest.String() })
}
