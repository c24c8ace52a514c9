package ztoc

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	readBlock  = 64 << 10 // what is read of the zTOC at once
	maxVTables = 4096     // vtables that are remembered
	maxFields  = 14       // fields of a table that are looked at: what an entry has
	maxText    = 16 << 20 // of one string; what a tar says of a file has 1 MiB at most
	// A zTOC that lies as official builders write it is read little more than
	// once. One whose parts refer far and wide costs a block for each of them.
	maxRereads    = 32 // times its size that a reader reads
	rereadsAtOnce = 64 << 20
)

// fbReader reads a FlatBuffers buffer that nobody vouches for, and no more of
// it than is asked for. The first error sticks, and then everything is zero: a
// caller looks at err when it has all it wanted. It is for one goroutine.
type fbReader struct {
	r    io.ReaderAt
	base int64 // of the buffer in r
	size int64 // of the buffer
	err  error

	block   []byte
	off     int64 // of block in the buffer
	vtables map[int64][]uint16
	left    int64 // what may still be read
}

func newFBReader(r io.ReaderAt, base, size int64) *fbReader {
	return &fbReader{
		r: r, base: base, size: size, vtables: map[int64][]uint16{},
		left: maxRereads*size + rereadsAtOnce,
	}
}

func (f *fbReader) invalid(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrInvalid)
	}
}

// bytes gives n bytes from off on. They are good until the next call.
func (f *fbReader) bytes(off, n int64) []byte {
	if f.err != nil {
		return nil
	}
	if at := off - f.off; at >= 0 && n >= 0 && at+n <= int64(len(f.block)) {
		return f.block[at : at+n]
	}
	if off < 0 || n < 0 || off > f.size || n > f.size-off {
		f.invalid("%d bytes at %d are outside of the %d that there are", n, off, f.size)
		return nil
	}
	start := off
	switch {
	case n >= readBlock/4:
	case off < f.off:
		start = max(0, off-readBlock*3/4) // the reader goes backward
	default:
		start = max(0, off-readBlock/8) // what belongs to one entry is read from its end to its beginning
	}
	want := min(max(n, readBlock), f.size-start)
	if f.left -= want; f.left < 0 {
		f.invalid("its parts refer far and wide")
		return nil
	}
	f.block, f.off = f.block[:0], start
	if err := f.fill(want); err != nil {
		f.block = f.block[:0]
		f.err = fmt.Errorf("read %d bytes at %d: %w", want, f.base+start, err)
		return nil
	}
	return f.block[off-start:][:n]
}

// fill reads want bytes into the block. Of many, each piece is as long as what
// has come before it: the memory for them is not taken on a mere claim.
func (f *fbReader) fill(want int64) error {
	for have := int64(0); have < want; {
		n := min(want, max(2*have, readBlock))
		if int64(cap(f.block)) < n {
			f.block = append(make([]byte, 0, n), f.block...)
		}
		f.block = f.block[:n]
		if k, err := f.r.ReadAt(f.block[have:], f.base+f.off+have); int64(k) < n-have {
			return unexpected(err)
		}
		have = n
	}
	return nil
}

func (f *fbReader) uint32(off int64) uint32 {
	if p := f.bytes(off, 4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (f *fbReader) int64(off int64) int64 {
	if p := f.bytes(off, 8); p != nil {
		return int64(binary.LittleEndian.Uint64(p))
	}
	return 0
}

// ref follows the reference at off.
func (f *fbReader) ref(off int64) int64 {
	d := int64(f.uint32(off))
	if d == 0 || d > f.size-off {
		f.invalid("reference at %d leads nowhere", off)
		return 0
	}
	return off + d
}

// vector is where the elements of a vector or the bytes of a string are.
type vector struct {
	off int64
	n   int64
}

// vector reads the length of the vector at off and sees that all of its
// elements, of the given size, are there.
func (f *fbReader) vector(off, size int64) vector {
	n := int64(f.uint32(off))
	if f.err == nil && n > (f.size-off-4)/size {
		f.invalid("%d elements at %d run over the end", n, off)
	}
	if f.err != nil {
		return vector{}
	}
	return vector{off + 4, n}
}

// table is a table's position and where its fields are in it.
type table struct {
	off    int64
	fields []uint16 // 0 is unset
}

// table reads the table at off.
func (f *fbReader) table(off int64) table {
	at := off - int64(int32(f.uint32(off)))
	if f.err != nil {
		return table{}
	}
	if vt, ok := f.vtables[at]; ok {
		return table{off, vt}
	}
	head := f.bytes(at, 4)
	if head == nil {
		return table{}
	}
	size := int64(binary.LittleEndian.Uint16(head))
	if size < 4 || size%2 != 0 {
		f.invalid("vtable of %d bytes at %d", size, at)
		return table{}
	}
	if size > f.size-at {
		f.invalid("vtable of %d bytes at %d runs over the end", size, at)
		return table{}
	}
	p := f.bytes(at+4, min(size-4, 2*maxFields))
	if p == nil && f.err != nil {
		return table{}
	}
	vt := make([]uint16, len(p)/2)
	for i := range vt {
		vt[i] = binary.LittleEndian.Uint16(p[2*i:])
	}
	if len(f.vtables) == maxVTables {
		clear(f.vtables)
	}
	f.vtables[at] = vt
	return table{off, vt}
}

// field is the position of a field, or 0 where it is unset. No field is at 0:
// there is the reference to the root.
func (t table) field(slot int) int64 {
	if slot >= len(t.fields) || t.fields[slot] == 0 {
		return 0
	}
	return t.off + int64(t.fields[slot])
}

// text is the vector of a string, empty where it is unset.
func (f *fbReader) text(t table, slot int) vector {
	v := f.vectorField(t, slot, 1)
	if v.n > maxText {
		f.invalid("string of %d bytes at %d", v.n, v.off)
		return vector{}
	}
	return v
}

func (f *fbReader) vectorField(t table, slot int, size int64) vector {
	at := t.field(slot)
	if at == 0 || f.err != nil {
		return vector{}
	}
	off := f.ref(at)
	if f.err != nil {
		return vector{}
	}
	return f.vector(off, size)
}

func (f *fbReader) int64Field(t table, slot int) int64 {
	if at := t.field(slot); at != 0 {
		return f.int64(at)
	}
	return 0
}

func (f *fbReader) uint32Field(t table, slot int) uint32 {
	if at := t.field(slot); at != 0 {
		return f.uint32(at)
	}
	return 0
}

// tableField is the table that a field refers to; without one it is an error.
func (f *fbReader) tableField(t table, slot int, what string) table {
	at := t.field(slot)
	if at == 0 {
		f.invalid("no %s", what)
		return table{}
	}
	off := f.ref(at)
	if f.err != nil {
		return table{}
	}
	return f.table(off)
}

// root is the table that the buffer begins with a reference to.
func (f *fbReader) root() table {
	off := f.ref(0)
	if f.err != nil {
		return table{}
	}
	return f.table(off)
}

// string reads the bytes of a string.
func (f *fbReader) string(v vector) string { return string(f.bytes(v.off, v.n)) }
