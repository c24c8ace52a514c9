package ztoc

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/opencontainers/go-digest"
)

// Span is a run of compressed bytes, [Off, End), that can be decompressed when
// the checkpoint at its beginning is known.
type Span struct {
	Off, End int64
	Digest   digest.Digest
}

// SpanTable says where the spans of a layer are and what their bytes hash to.
// It takes 40 bytes a span. It is not changed once made, so that copies share
// it and many goroutines may use it.
type SpanTable struct {
	size int64 // of the layer
	// Start of each span, doubled; plus 1 if its first byte is the last one of
	// the span before it too, because a deflate block begins inside that byte.
	// Rises strictly.
	start []uint64
	sum   []byte // sha256 of each span, one after another
}

// Len is the number of spans.
func (t SpanTable) Len() int { return len(t.start) }

// LayerSize is the size of the compressed layer.
func (t SpanTable) LayerSize() int64 { return t.size }

// HeadEnd is where the first span begins. The bytes before it, a gzip header,
// are in no span.
func (t SpanTable) HeadEnd() int64 {
	if len(t.start) == 0 {
		return t.size
	}
	return t.off(0)
}

// Span gives span i. It panics if there is none.
func (t SpanTable) Span(i int) Span {
	sum := t.sum[i*sha256.Size:][:sha256.Size]
	return Span{t.off(i), t.end(i), digest.NewDigestFromBytes(digest.SHA256, sum)}
}

func (t SpanTable) off(i int) int64 { return int64(t.start[i] >> 1) }

func (t SpanTable) end(i int) int64 {
	if i+1 == len(t.start) {
		return t.size
	}
	return int64(t.start[i+1]>>1) + int64(t.start[i+1]&1)
}

// Cover gives the fewest spans, first to last inclusive, that hold the bytes
// [off, end) of the compressed layer, as far as they are in a span at all:
// those before HeadEnd and from LayerSize on are in none. last < first says
// that no span is needed.
func (t SpanTable) Cover(off, end int64) (first, last int) {
	off, end = max(off, t.HeadEnd()), min(end, t.size)
	if off >= end {
		return 0, -1
	}
	n := len(t.start)
	// The last span that begins at or before off, the first that ends at or
	// after end. A single byte that two spans share may turn these round.
	first = sort.Search(n, func(i int) bool { return t.off(i) > off }) - 1
	last = sort.Search(n, func(i int) bool { return t.end(i) >= end })
	return min(first, last), last
}

// tableVersion is the first byte of a marshalled table.
const tableVersion = 1

// MarshalBinary gives the table in some 36 bytes a span: a version byte, then as
// uvarints the layer's size, the number of spans, and for each the distance
// from the start of the one before it, doubled, plus 1 if they share a byte;
// then the digests.
func (t SpanTable) MarshalBinary() ([]byte, error) {
	p := make([]byte, 0, 2*binary.MaxVarintLen64+len(t.start)*(5+sha256.Size))
	p = append(p, tableVersion)
	p = binary.AppendUvarint(p, uint64(t.size))
	p = binary.AppendUvarint(p, uint64(len(t.start)))
	var last uint64
	for _, s := range t.start {
		p = binary.AppendUvarint(p, (s>>1-last)<<1|s&1)
		last = s >> 1
	}
	return append(p, t.sum...), nil
}

// UnmarshalBinary reads what MarshalBinary gave, and checks that it is a table:
// the spans begin one after another inside the layer. ErrInvalid.
func (t *SpanTable) UnmarshalBinary(p []byte) error {
	bad := func(what string) error { return fmt.Errorf("span table: %s: %w", what, ErrInvalid) }
	if len(p) == 0 || p[0] != tableVersion {
		return bad("unknown version")
	}
	p = p[1:]
	number := func() (uint64, bool) {
		v, n := binary.Uvarint(p)
		if n <= 0 || v > 1<<63-1 {
			return 0, false
		}
		p = p[n:]
		return v, true
	}
	size, ok1 := number()
	count, ok2 := number()
	if !ok1 || !ok2 || count > uint64(len(p))/(1+sha256.Size) || size > 1<<61 {
		return bad("size or count out of range")
	}
	start := make([]uint64, count)
	var last uint64
	for i := range start {
		v, ok := number()
		if !ok || v>>1 >= size || last+v>>1 >= size || i > 0 && v>>1 == 0 || i == 0 && v&1 != 0 {
			return bad("span out of order or outside of the layer")
		}
		last += v >> 1
		start[i] = last<<1 | v&1
	}
	if uint64(len(p)) != count*sha256.Size {
		return bad("digests are cut or followed by something")
	}
	*t = SpanTable{size: int64(size), start: start, sum: append([]byte(nil), p...)}
	return nil
}

// spanStart is what start holds of a span at off, and whether the span before it
// ends with the byte there too.
func spanStart(off int64, shared bool) uint64 {
	s := uint64(off) << 1
	if shared {
		s |= 1
	}
	return s
}

// add opens span number Len at off.
func (t *SpanTable) add(off int64, shared bool) {
	t.start = append(t.start, spanStart(off, shared))
}
