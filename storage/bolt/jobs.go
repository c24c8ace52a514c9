package bolt

import (
	"errors"
	"fmt"

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
	if err := t.t.Bucket(bucketJobsByAge).Put(ageKey(row, key), present); err != nil {
		return err
	}
	return t.put(bucketJobs, key, row)
}

// ageKey sorts jobs by age.
func ageKey(row storage.JobRow, key []byte) []byte {
	return append(appendTime(make([]byte, 0, keyRoom), row.Created), key...)
}

func (t tx) Job(layer digest.Digest, spanSize int64) (row storage.JobRow, err error) {
	key, err := layerKey(layer, spanSize)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketJobs, key, &row, layerName("job", layer, spanSize))
}

func (t tx) DeleteJob(layer digest.Digest, spanSize int64) error {
	row, err := t.Job(layer, spanSize)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := layerKey(layer, spanSize)
	if err != nil {
		return err
	}
	if err := t.t.Bucket(bucketJobsByAge).Delete(ageKey(row, key)); err != nil {
		return err
	}
	return t.t.Bucket(bucketJobs).Delete(key)
}

func (t tx) Jobs(fn func(storage.JobRow) error) error {
	return t.scan(bucketJobsByAge, nil, nil, func(k, _ []byte) error {
		if len(k) < timeLen {
			return fmt.Errorf("%w: no time in %x", errKey, k)
		}
		v := t.t.Bucket(bucketJobs).Get(k[timeLen:])
		if v == nil {
			return fmt.Errorf("%w: no job for %x", errRow, k)
		}
		var row storage.JobRow
		if err := unmarshal(bucketJobs, k, v, &row); err != nil {
			return err
		}
		return fn(row)
	})
}
