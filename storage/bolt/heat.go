package bolt

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// A layer's heat is written every minute in which it is read, and has an item a
// span, so it is not JSON:
//
//	byte     format, 1
//	         then for each span:
//	uvarint  how often it was read
//	uvarint  when last, seconds since 1970; absent where it never was
const heatFormat = 1

func (t tx) PutHeat(row storage.HeatRow) error {
	key, err := layerKey(row.Digest, row.SpanSize)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketHeat).Put(key, encodeHeat(row.Spans))
}

func (t tx) Heat(d digest.Digest, spanSize int64) (storage.HeatRow, error) {
	key, err := layerKey(d, spanSize)
	if err != nil {
		return storage.HeatRow{}, err
	}
	v := t.t.Bucket(bucketHeat).Get(key)
	if v == nil {
		return storage.HeatRow{}, fmt.Errorf("%s: %w", layerName("heat", d, spanSize)(), storage.ErrNotFound)
	}
	spans, err := decodeHeat(v)
	if err != nil {
		return storage.HeatRow{}, fmt.Errorf("%s: %w", layerName("heat", d, spanSize)(), t.unreadable(bucketHeat, key, err))
	}
	return storage.HeatRow{Digest: d, SpanSize: spanSize, Spans: spans}, nil
}

func encodeHeat(spans []storage.SpanHeat) []byte {
	v := append(make([]byte, 0, 1+6*len(spans)), heatFormat)
	for _, s := range spans {
		v = binary.AppendUvarint(v, uint64(s.Reads))
		if s.Reads > 0 {
			v = binary.AppendUvarint(v, uint64(max(0, s.Last.Unix())))
		}
	}
	return v
}

func decodeHeat(v []byte) ([]storage.SpanHeat, error) {
	bad := func() ([]storage.SpanHeat, error) { return nil, fmt.Errorf("%w: heat %.100x", errRow, v) }
	if len(v) == 0 || v[0] != heatFormat {
		return bad()
	}
	spans := make([]storage.SpanHeat, 0, len(v)-1)
	for v = v[1:]; len(v) > 0; {
		reads, n := binary.Uvarint(v)
		if n <= 0 || reads > 1<<32-1 {
			return bad()
		}
		v = v[n:]
		s := storage.SpanHeat{Reads: uint32(reads)}
		if reads > 0 {
			last, n := binary.Uvarint(v)
			if n <= 0 || last > 1<<40 {
				return bad()
			}
			v, s.Last = v[n:], time.Unix(int64(last), 0).UTC()
		}
		spans = append(spans, s)
	}
	return spans, nil
}
