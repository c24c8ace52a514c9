package bolt

import (
	"bytes"
	"encoding/json"
	"fmt"

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

// get fills row from JSON; what names the row in errors.
func (t tx) get(bucket, key []byte, row any, what func() string) error {
	v := t.t.Bucket(bucket).Get(key)
	if v == nil {
		return fmt.Errorf("%s: %w", what(), storage.ErrNotFound)
	}
	if err := json.Unmarshal(v, row); err != nil {
		return fmt.Errorf("%s: %w: %w", what(), errRow, err)
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

// scanRows is scan over JSON rows.
func scanRows[R any](t tx, bucket, prefix []byte, fn func(R) error) error {
	return t.scan(bucket, prefix, prefix, func(k, v []byte) error {
		var row R
		if err := unmarshal(bucket, k, v, &row); err != nil {
			return err
		}
		return fn(row)
	})
}

func unmarshal(bucket, k, v []byte, row any) error {
	if err := json.Unmarshal(v, row); err != nil {
		return fmt.Errorf("%w: %s %x: %w", errRow, bucket, k, err)
	}
	return nil
}

// present is the value of a key that says all. It is not nil: within the
// transaction that put it, bbolt would give a nil value back as an absent one.
var present = []byte{}
