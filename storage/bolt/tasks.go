package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// taskKey ends each name but the last.
func taskKey(kind storage.TaskKind, repo oci.Repo, reference string) ([]byte, error) {
	if kind == "" {
		return nil, fmt.Errorf("%w: task without a kind", errKey)
	}
	key := make([]byte, 0, keyRoom)
	for _, name := range []string{string(kind), repo.Upstream, repo.Name, reference} {
		var err error
		if key, err = appendName(key, name); err != nil {
			return nil, err
		}
		key = append(key, 0)
	}
	return key[:len(key)-1], nil
}

// orderKey sorts by priority, the highest first, then by age.
func orderKey(priority int, key []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, keyRoom), ^(uint32(int32(priority))^1<<31)), key...) //nolint:gosec // bounded by whoever configures it
}

// orderLen is the length of what precedes a row's own key there.
const orderLen = 4 + timeLen

func (t tx) PutTask(row storage.TaskRow) error {
	if err := t.DeleteTask(row.Kind, row.Repo, row.Reference); err != nil {
		return err
	}
	key, err := taskKey(row.Kind, row.Repo, row.Reference)
	if err != nil {
		return err
	}
	if err := t.t.Bucket(bucketTasksByOrder).Put(taskOrder(row, key), present); err != nil {
		return err
	}
	return t.put(bucketTasks, key, row)
}

func taskOrder(row storage.TaskRow, key []byte) []byte {
	return orderKey(row.Priority, append(timeKey(row.Created), key...))
}

func (t tx) Task(kind storage.TaskKind, repo oci.Repo, reference string) (row storage.TaskRow, err error) {
	key, err := taskKey(kind, repo, reference)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketTasks, key, &row, func() string { return fmt.Sprintf("%s task of %s, %s", kind, repo, reference) })
}

func (t tx) DeleteTask(kind storage.TaskKind, repo oci.Repo, reference string) error {
	key, err := taskKey(kind, repo, reference)
	if err != nil {
		return err
	}
	row, err := t.Task(kind, repo, reference)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forget(bucketTasks, key)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.t.Bucket(bucketTasksByOrder).Delete(taskOrder(row, key)); err != nil {
		return err
	}
	return t.t.Bucket(bucketTasks).Delete(key)
}

func (t tx) Tasks(fn func(storage.TaskRow) error) error {
	return scanOrdered(t, bucketTasksByOrder, bucketTasks, fn)
}

// scanOrdered calls fn for each row of bucket in the order of another, whose
// keys are orderLen bytes and the row's own.
func scanOrdered[R any](t tx, order, bucket []byte, fn func(R) error) error {
	return t.scan(order, nil, nil, func(k, _ []byte) error {
		if len(k) < orderLen {
			return t.skip(order, k, errKey)
		}
		own := k[orderLen:]
		v := t.t.Bucket(bucket).Get(own)
		if v == nil {
			return t.skip(order, k, errFiled)
		}
		var row R
		if err := decode(own, v, &row); err != nil {
			return t.skip(bucket, own, err)
		}
		return fn(row)
	})
}
