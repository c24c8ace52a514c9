package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/sociable/sociable/storage"
)

// numberLen is the length of an event's number in its key.
const numberLen = 8

func eventsPrefix(endpoint string) ([]byte, error) {
	key, err := appendName(make([]byte, 0, keyRoom), endpoint)
	if err != nil {
		return nil, err
	}
	if endpoint == "" {
		return nil, fmt.Errorf("%w: an endpoint without a name", errKey)
	}
	return append(key, 0), nil
}

func (t tx) AddEvent(endpoint string, body []byte) error {
	key, err := eventsPrefix(endpoint)
	if err != nil {
		return err
	}
	n, err := t.t.Bucket(bucketEvents).NextSequence()
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketEvents).Put(binary.BigEndian.AppendUint64(key, n), bytes.Clone(body))
}

func (t tx) Events(endpoint string, after uint64, fn func(storage.EventRow) error) error {
	prefix, err := eventsPrefix(endpoint)
	if err != nil || after == math.MaxUint64 {
		return err
	}
	from := binary.BigEndian.AppendUint64(bytes.Clone(prefix), after+1)
	return t.scan(bucketEvents, prefix, from, func(k, v []byte) error {
		if len(k) != len(prefix)+numberLen {
			return t.skip(bucketEvents, k, errKey)
		}
		return fn(storage.EventRow{
			Endpoint: endpoint, Number: binary.BigEndian.Uint64(k[len(prefix):]), Body: bytes.Clone(v),
		})
	})
}

// DeleteEvents deletes by a cursor, from the first on: where a deletion moves
// the next key up, the cursor is set anew.
func (t tx) DeleteEvents(endpoint string, number uint64) error {
	prefix, err := eventsPrefix(endpoint)
	if err != nil {
		return err
	}
	last := binary.BigEndian.AppendUint64(bytes.Clone(prefix), number)
	c := t.t.Bucket(bucketEvents).Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix) && bytes.Compare(k, last) <= 0; k, _ = c.Seek(prefix) {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) EventEndpoints(fn func(string) error) error {
	c := t.t.Bucket(bucketEvents).Cursor()
	for k, _ := c.First(); k != nil; {
		name, number, _ := bytes.Cut(k, []byte{0})
		if len(name) == 0 || len(number) != numberLen {
			_ = t.skip(bucketEvents, k, errKey)
			k, _ = c.Next()
			continue
		}
		if err := fn(string(name)); err != nil {
			return err
		}
		k, _ = c.Seek(append(bytes.Clone(name), 1)) // the first key after all of its events
	}
	return nil
}
