package bolt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func (t tx) PutPin(row storage.PinRow) error {
	if err := t.DeletePin(row.Reference); err != nil {
		return err
	}
	key, err := pinKey(row.Reference)
	if err != nil {
		return err
	}
	err = t.eachPinKey(row, func(key []byte) error { return t.t.Bucket(bucketPinsByDigest).Put(key, present) })
	if err != nil {
		return err
	}
	return t.put(bucketPins, key, row)
}

func pinKey(reference string) ([]byte, error) {
	if reference == "" {
		return nil, fmt.Errorf("%w: pin without a reference", errKey)
	}
	return appendName(make([]byte, 0, keyRoom), reference)
}

// eachPinKey calls fn with the key of each digest under which row is filed.
func (t tx) eachPinKey(row storage.PinRow, fn func(key []byte) error) error {
	for _, d := range row.Holds {
		key, err := digestKey(d)
		if err != nil {
			return err
		}
		if err := fn(append(key, row.Reference...)); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) Pin(reference string) (row storage.PinRow, err error) {
	key, err := pinKey(reference)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketPins, key, &row, func() string { return "pin " + reference })
}

func (t tx) DeletePin(reference string) error {
	row, err := t.Pin(reference)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forget(bucketPins, []byte(reference))
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.eachPinKey(row, t.t.Bucket(bucketPinsByDigest).Delete); err != nil {
		return err
	}
	return t.t.Bucket(bucketPins).Delete([]byte(reference))
}

func (t tx) Pins(fn func(storage.PinRow) error) error {
	return scanRows(t, bucketPins, nil, fn)
}

func (t tx) PinsOf(d digest.Digest, fn func(storage.PinRow) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.scan(bucketPinsByDigest, prefix, prefix, func(k, _ []byte) error {
		row, err := t.Pin(string(k[len(prefix):]))
		if errors.Is(err, storage.ErrNotFound) { // or can't be read: it holds d all the same
			row, err = storage.PinRow{Reference: string(k[len(prefix):]), Holds: []digest.Digest{d}}, nil
		}
		if err != nil {
			return err
		}
		return fn(row)
	})
}

func (t tx) Pinned(d digest.Digest) (bool, error) {
	prefix, err := digestKey(d)
	if err != nil {
		return false, err
	}
	k, _ := t.t.Bucket(bucketPinsByDigest).Cursor().Seek(prefix)
	return bytes.HasPrefix(k, prefix), nil
}

func (t tx) AllPinned(fn func(digest.Digest) error) error {
	var last digest.Digest
	return t.scan(bucketPinsByDigest, nil, nil, func(k, _ []byte) error {
		d, _, err := cutDigest(k)
		if err != nil {
			return t.skip(bucketPinsByDigest, k, err)
		}
		if d == last {
			return nil
		}
		last = d
		return fn(d)
	})
}

func (t tx) PutBlock(row storage.BlockRow) error {
	key, err := digestKey(row.Digest)
	if err != nil {
		return err
	}
	return t.put(bucketBlocks, key, row)
}

func (t tx) Block(d digest.Digest) (row storage.BlockRow, err error) {
	key, err := digestKey(d)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketBlocks, key, &row, func() string { return "block " + d.String() })
}

func (t tx) DeleteBlock(d digest.Digest) error {
	key, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketBlocks).Delete(key)
}

func (t tx) Blocks(fn func(storage.BlockRow) error) error {
	return scanRows(t, bucketBlocks, nil, fn)
}

func (t tx) Blocked(d digest.Digest) (bool, error) {
	key, err := digestKey(d)
	if err != nil {
		return false, err
	}
	return t.t.Bucket(bucketBlocks).Get(key) != nil, nil
}
