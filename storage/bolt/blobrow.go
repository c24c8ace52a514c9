package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// A blob's row is read with every blob that is served, and there are as many as
// spans, so it is not JSON (a quarter of the size, a fifteenth of the time):
//
//	byte     format, 1
//	byte     kind, its place in kinds
//	uvarint  size
//	varint   created, seconds since 1970; uvarint nanoseconds
//	varint   accessed, the same
//	rest     of: a digest as in keys, or nothing
const blobRowFormat = 1

// kinds are numbered by their place, for good; 0 stands for none.
var kinds = []storage.Kind{
	"", storage.KindBlob, storage.KindSpan, storage.KindManifest, storage.KindZTOC, storage.KindIndex,
	storage.KindHosted, storage.KindHot,
}

var errRow = errors.New("bad row")

func kindByte(k storage.Kind) (byte, error) {
	for i, known := range kinds {
		if k == known && i > 0 {
			return byte(i), nil
		}
	}
	return 0, fmt.Errorf("%w: unknown kind %q", errRow, k)
}

func encodeBlobRow(r storage.BlobRow) ([]byte, error) {
	kind, err := kindByte(r.Kind)
	if err != nil {
		return nil, err
	}
	if r.Size < 0 {
		return nil, fmt.Errorf("%w: size %d", errRow, r.Size)
	}
	v := append(make([]byte, 0, keyRoom), blobRowFormat, kind)
	v = binary.AppendUvarint(v, uint64(r.Size))
	v = appendRowTime(v, r.Created)
	v = appendRowTime(v, r.Accessed)
	if r.Of == "" {
		return v, nil
	}
	return appendDigest(v, r.Of)
}

func appendRowTime(v []byte, t time.Time) []byte {
	v = binary.AppendVarint(v, t.Unix())
	return binary.AppendUvarint(v, uint64(t.Nanosecond()))
}

func decodeBlobRow(d digest.Digest, v []byte) (storage.BlobRow, error) {
	bad := func() (storage.BlobRow, error) {
		return storage.BlobRow{}, fmt.Errorf("%w: blob %s: %.100x", errRow, d, v)
	}
	if len(v) < 2 || v[0] != blobRowFormat || v[1] == 0 || int(v[1]) >= len(kinds) {
		return bad()
	}
	r := storage.BlobRow{Digest: d, Kind: kinds[v[1]]}
	rest := v[2:]
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > 1<<63-1 {
		return bad()
	}
	r.Size, rest = int64(size), rest[n:]
	var ok bool
	if r.Created, rest, ok = cutRowTime(rest); !ok {
		return bad()
	}
	if r.Accessed, rest, ok = cutRowTime(rest); !ok {
		return bad()
	}
	if len(rest) > 0 {
		of, tail, err := cutDigest(rest)
		if err != nil || len(tail) > 0 {
			return bad()
		}
		r.Of = of
	}
	return r, nil
}

func cutRowTime(v []byte) (t time.Time, rest []byte, ok bool) {
	sec, n := binary.Varint(v)
	if n <= 0 {
		return t, nil, false
	}
	nsec, m := binary.Uvarint(v[n:])
	if m <= 0 || nsec >= 1e9 {
		return t, nil, false
	}
	return time.Unix(sec, int64(nsec)).UTC(), v[n+m:], true
}
