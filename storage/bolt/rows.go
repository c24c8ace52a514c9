package bolt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/sociable/sociable/storage"
)

// put stores row as JSON.
func (t tx) put(bucket, key []byte, row any) error {
	v, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("%w: %w", errRow, err)
	}
	return t.t.Bucket(bucket).Put(key, v)
}

// get fills row from JSON; what names the row in errors. ErrUnreadable leaves row
// empty.
func (t tx) get(bucket, key []byte, row any, what func() string) error {
	v := t.t.Bucket(bucket).Get(key)
	if v == nil {
		return fmt.Errorf("%s: %w", what(), storage.ErrNotFound)
	}
	if err := json.Unmarshal(v, row); err != nil {
		reflect.ValueOf(row).Elem().SetZero()
		return fmt.Errorf("%s: %w", what(), t.unreadable(bucket, key, err))
	}
	return nil
}

// scan calls fn for each key of bucket that begins with prefix, from from on.
// k and v are void when fn returns.
func (t tx) scan(bucket, prefix, from []byte, fn func(k, v []byte) error) error {
	c := t.t.Bucket(bucket).Cursor()
	for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

// scanRows is scan over JSON rows. Those that can't be read are left out.
func scanRows[R any](t tx, bucket, prefix []byte, fn func(R) error) error {
	return scanRowsFrom(t, bucket, prefix, prefix, fn)
}

// scanRowsFrom is scanRows from from on.
func scanRowsFrom[R any](t tx, bucket, prefix, from []byte, fn func(R) error) error {
	return t.scan(bucket, prefix, from, func(k, v []byte) error {
		var row R
		if err := json.Unmarshal(v, &row); err != nil {
			_ = t.unreadable(bucket, k, err) // that it is told is enough
			return nil
		}
		return fn(row)
	})
}

// present is the value of a key that says all. It is not nil: within the
// transaction that put it, bbolt would give a nil value back as an absent one.
var present = []byte{}
