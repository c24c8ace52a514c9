package bolt

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func (t tx) PutJob(row storage.JobRow) error {
	if err := t.DeleteJob(row.Layer.Digest, row.SpanSize); err != nil {
		return err
	}
	key, err := layerKey(row.Layer.Digest, row.SpanSize)
	if err != nil {
		return err
	}
	if err := t.t.Bucket(bucketJobsByOrder).Put(jobOrder(row, key), present); err != nil {
		return err
	}
	return t.put(bucketJobs, key, row)
}

func jobOrder(row storage.JobRow, key []byte) []byte {
	return orderKey(row.Priority, append(timeKey(row.Created), key...))
}

func (t tx) Job(layer digest.Digest, spanSize int64) (row storage.JobRow, err error) {
	key, err := layerKey(layer, spanSize)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketJobs, key, &row, layerName("job", layer, spanSize))
}

func (t tx) DeleteJob(layer digest.Digest, spanSize int64) error {
	key, err := layerKey(layer, spanSize)
	if err != nil {
		return err
	}
	row, err := t.Job(layer, spanSize)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forget(bucketJobs, key)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.t.Bucket(bucketJobsByOrder).Delete(jobOrder(row, key)); err != nil {
		return err
	}
	return t.t.Bucket(bucketJobs).Delete(key)
}

func (t tx) Jobs(fn func(storage.JobRow) error) error {
	return scanOrdered(t, bucketJobsByOrder, bucketJobs, fn)
}
