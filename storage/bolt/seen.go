package bolt

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// A row of pulls is written every minute in which there is one: a format byte,
// then as uvarints how many there were and when the last one was, in seconds
// since 1970 and nanoseconds.
const pullsFormat = 1

func (t tx) PutPulls(row storage.PullRow) error {
	key, err := digestKey(row.Manifest)
	if err != nil {
		return err
	}
	if row.Pulls < 0 || row.Last.Unix() < 0 {
		return fmt.Errorf("%w: %d pulls, the last at %v", errRow, row.Pulls, row.Last)
	}
	v := binary.AppendUvarint([]byte{pullsFormat}, uint64(row.Pulls))
	v = binary.AppendUvarint(v, uint64(row.Last.Unix()))
	return t.t.Bucket(bucketPulls).Put(key, binary.AppendUvarint(v, uint64(row.Last.Nanosecond())))
}

func (t tx) Pulls(manifest digest.Digest) (storage.PullRow, error) {
	key, err := digestKey(manifest)
	if err != nil {
		return storage.PullRow{}, err
	}
	v := t.t.Bucket(bucketPulls).Get(key)
	if v == nil {
		return storage.PullRow{}, fmt.Errorf("pulls of %s: %w", manifest, storage.ErrNotFound)
	}
	row, err := decodePulls(manifest, v)
	if err != nil {
		return storage.PullRow{}, fmt.Errorf("pulls of %s: %w", manifest, t.unreadable(bucketPulls, key, err))
	}
	return row, nil
}

func decodePulls(d digest.Digest, v []byte) (storage.PullRow, error) {
	bad := fmt.Errorf("%w: pulls of %s: %.100x", errRow, d, v)
	if len(v) == 0 || v[0] != pullsFormat {
		return storage.PullRow{}, bad
	}
	var num [3]uint64
	v = v[1:]
	for i := range num {
		x, n := binary.Uvarint(v)
		if n <= 0 || x > 1<<62 {
			return storage.PullRow{}, bad
		}
		num[i], v = x, v[n:]
	}
	if len(v) > 0 || num[1] > 1<<40 || num[2] >= 1e9 {
		return storage.PullRow{}, bad
	}
	return storage.PullRow{Manifest: d, Pulls: int64(num[0]), Last: time.Unix(int64(num[1]), int64(num[2])).UTC()}, nil
}

func (t tx) DeletePulls(manifest digest.Digest) error {
	key, err := digestKey(manifest)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketPulls).Delete(key)
}

func (t tx) AllPulls(fn func(storage.PullRow) error) error {
	return t.scan(bucketPulls, nil, nil, func(k, v []byte) error {
		d, err := wholeDigest(k)
		var row storage.PullRow
		if err == nil {
			row, err = decodePulls(d, v)
		}
		if err != nil {
			return t.skip(bucketPulls, k, err)
		}
		return fn(row)
	})
}

func (t tx) PutSamples(name string, samples []byte) error {
	return t.t.Bucket(bucketSamples).Put([]byte(name), slices.Clone(samples))
}

func (t tx) Samples(name string) ([]byte, error) {
	v := t.t.Bucket(bucketSamples).Get([]byte(name))
	if v == nil {
		return nil, fmt.Errorf("samples %q: %w", name, storage.ErrNotFound)
	}
	return slices.Clone(v), nil
}
