package storagetest

import (
	"bytes"
	"errors"
	"testing"

	"go.etcd.io/bbolt"
)

// changeRows changes one table in the file path of a bolt.DB that is closed.
func changeRows(t testing.TB, path, table string, change func(b *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatalf("open rows to change them: %v", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(table))
		if b == nil {
			return errors.New("there are no such rows")
		}
		return change(b)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("change rows of %s: %v", table, err)
	}
}

// SwapRows gives two rows each other's values in a table that has two that differ.
func SwapRows(t testing.TB, path, table string) {
	t.Helper()
	changeRows(t, path, table, func(b *bbolt.Bucket) error {
		k, v := b.Cursor().First()
		first, is := bytes.Clone(k), bytes.Clone(v)
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if !bytes.Equal(v, is) {
				other := bytes.Clone(v)
				return errors.Join(b.Put(bytes.Clone(k), is), b.Put(first, other))
			}
		}
		return errors.New("there are no two rows that differ")
	})
}

// BadKeys are no keys of any table, or of hardly any.
func BadKeys() [][]byte {
	digest := append([]byte{1}, bytes.Repeat([]byte{7}, 32)...)
	return [][]byte{
		{0}, {1, 2, 3}, {0xff, 0, 0xff}, bytes.Repeat([]byte{0}, 40), append(bytes.Clone(digest), 0, 0, 0, 0), append(digest, digest[:20]...),
	}
}

// PutRow puts a value as it is in a table of the file path of a bolt.DB that is closed.
func PutRow(t testing.TB, path, table string, key, value []byte) {
	t.Helper()
	changeRows(t, path, table, func(b *bbolt.Bucket) error { return b.Put(key, value) })
}

// AddBadKey puts a value of the table under a key that is none; where move, the row
// that had it is gone.
func AddBadKey(t testing.TB, path, table string, key []byte, move bool) {
	t.Helper()
	changeRows(t, path, table, func(b *bbolt.Bucket) error {
		k, v := b.Cursor().First()
		if k == nil {
			return errors.New("there are no rows")
		}
		k, v = bytes.Clone(k), bytes.Clone(v)
		if move {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return b.Put(key, v)
	})
}
