package bolt

import (
	"bytes"
	"encoding/json"
	"errors"
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
	if err := decode(key, v, row); err != nil {
		return fmt.Errorf("%s: %w", what(), t.unreadable(bucket, key, err))
	}
	return nil
}

// errOther is a value that tells another key than the one that it is under.
var errOther = errors.New("it is another row's")

// decode fills row, a pointer, from the value v of the key k, or leaves it empty.
func decode(k, v []byte, row any) error {
	err := json.Unmarshal(v, row)
	if err == nil {
		var own []byte
		if own, err = keyOf(row); err == nil && !bytes.Equal(own, k) {
			err = errOther
		}
	}
	if err != nil {
		reflect.ValueOf(row).Elem().SetZero()
	}
	return err
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
		if err := decode(k, v, &row); err != nil {
			return t.skip(bucket, k, err)
		}
		return fn(row)
	})
}

// present is the value of a key that says all. It is not nil: within the
// transaction that put it, bbolt would give a nil value back as an absent one.
var present = []byte{}

// keyOf is the key under which a row, a pointer to one that is kept as JSON, is put.
func keyOf(row any) ([]byte, error) {
	switch r := row.(type) {
	case *storage.PartialRow:
		return digestKey(r.Digest)
	case *storage.ManifestRow:
		return digestKey(r.Digest)
	case *storage.ContentRow:
		return contentKey(r.Repo, r.Digest)
	case *storage.TagRow:
		return tagKey(r.Repo, r.Tag)
	case *storage.ReferrerRow:
		return referrerKey(r.Repo, r.Subject, r.Descriptor.Digest)
	case *storage.UpstreamReferrersRow:
		return rightKey(r.Repo, r.Subject)
	case *storage.ImageRow:
		return digestKey(r.Manifest.Digest)
	case *storage.LayerRow:
		return layerKey(r.Digest, r.SpanSize)
	case *storage.LearnRow:
		return digestKey(r.Manifest)
	case *storage.TakenRow:
		return digestKey(r.Manifest)
	case *storage.JobRow:
		return layerKey(r.Layer.Digest, r.SpanSize)
	case *storage.TaskRow:
		return taskKey(r.Kind, r.Repo, r.Reference)
	case *storage.ConversionRow:
		return rightKey(r.Repo, r.Source.Digest)
	case *storage.ConvertedTagRow:
		return tagKey(r.Repo, r.Tag)
	case *storage.RetiredRow:
		return digestKey(r.Digest)
	case *storage.PublishedRow:
		return referrerKey(r.Repo, r.Subject, r.Index)
	case *storage.PinRow:
		return pinKey(r.Reference)
	case *storage.BlockRow:
		return digestKey(r.Digest)
	case *storage.MissingRow:
		return tagKey(r.Repo, r.Reference)
	case *storage.ImportedRow:
		return digestKey(r.Layer)
	case *storage.UploadRow:
		return uploadKey(r.ID)
	}
	return nil, fmt.Errorf("%w: %T has none", errKey, row)
}
