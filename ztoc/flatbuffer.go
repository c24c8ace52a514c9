package ztoc

import "encoding/binary"

const (
	fbChunk  = 64 << 10
	fbMemory = 8 // chunks that are kept in memory; the rest is spilled
)

// fbWriter writes a FlatBuffers buffer as the FlatBuffers builder for Go does:
// from its end to its beginning. A position is a distance from the end. What is
// written goes to chunks, of which the earlier ones may be spilled: nothing but
// the table under way is ever looked at again.
type fbWriter struct {
	spill *spill
	n     int64    // bytes written
	align int64    // the largest alignment asked for
	full  []extent // last one first in the buffer
	inMem int
	cur   []byte // filled from its end
	free  int    // bytes of cur that are not filled yet
	err   error  // of the spill; what follows is lost

	vtables map[vtable]int64
	slots   [maxFields]int64 // of the table under way; 0 is unset
	start   int64            // position at which it began
}

// vtable is the content by which vtables are shared: the entries alone.
type vtable struct {
	n       int
	entries [maxFields]uint16
}

func newFBWriter(s *spill) *fbWriter {
	return &fbWriter{spill: s, align: 1, vtables: map[vtable]int64{}}
}

// put writes p in front of what is there.
func (w *fbWriter) put(p []byte) {
	w.n += int64(len(p))
	for len(p) > 0 {
		if w.free == 0 {
			w.flush()
		}
		k := min(len(p), w.free)
		w.free -= k
		copy(w.cur[w.free:], p[len(p)-k:])
		p = p[:len(p)-k]
	}
}

// putString is put for a string.
func (w *fbWriter) putString(s string) {
	w.n += int64(len(s))
	for len(s) > 0 {
		if w.free == 0 {
			w.flush()
		}
		k := min(len(s), w.free)
		w.free -= k
		copy(w.cur[w.free:], s[len(s)-k:])
		s = s[:len(s)-k]
	}
}

// putExtents writes the parts of a long vector, which stay where they are.
func (w *fbWriter) putExtents(es []extent) {
	w.flush()
	for i := len(es) - 1; i >= 0; i-- {
		w.full = append(w.full, es[i])
		w.n += es[i].n
	}
}

// flush puts the current chunk away and takes an empty one.
func (w *fbWriter) flush() {
	if part := w.cur[w.free:]; len(part) > 0 && w.err == nil {
		e := extent{mem: part, n: int64(len(part))}
		if w.inMem >= fbMemory {
			e, w.err = w.spill.add(part)
		} else {
			w.inMem++
			w.cur = nil
		}
		w.full = append(w.full, e)
	}
	if w.cur == nil {
		w.cur = make([]byte, fbChunk)
	}
	w.free = len(w.cur)
}

var zeros [8]byte

// prep pads with zero bytes so that the buffer is aligned to size after extra
// more bytes.
func (w *fbWriter) prep(size, extra int64) {
	w.align = max(w.align, size)
	if pad := -(w.n + extra) & (size - 1); pad > 0 {
		w.put(zeros[:pad])
	}
}

func (w *fbWriter) uint16(v uint16) {
	var p [2]byte
	binary.LittleEndian.PutUint16(p[:], v)
	w.put(p[:])
}

func (w *fbWriter) uint32(v uint32) {
	if w.free >= 4 {
		w.free -= 4
		w.n += 4
		binary.LittleEndian.PutUint32(w.cur[w.free:], v)
		return
	}
	var p [4]byte
	binary.LittleEndian.PutUint32(p[:], v)
	w.put(p[:])
}

func (w *fbWriter) uint64(v uint64) {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], v)
	w.put(p[:])
}

// offset writes a reference to what is at position p.
func (w *fbWriter) offset(p int64) {
	w.prep(4, 0)
	w.uint32(uint32(w.n - p + 4))
}

// text writes a string and gives its position.
func (w *fbWriter) text(s string) int64 {
	w.prep(4, int64(len(s))+1)
	w.put(zeros[:1])
	w.putString(s)
	w.uint32(uint32(len(s)))
	return w.n
}

// bytes is text for bytes.
func (w *fbWriter) bytes(s []byte) int64 {
	w.prep(4, int64(len(s))+1)
	w.put(zeros[:1])
	w.put(s)
	w.uint32(uint32(len(s)))
	return w.n
}

// byteVector writes a vector of the bytes in es, n of them.
func (w *fbWriter) byteVector(es []extent, n int64) int64 {
	w.prep(4, n)
	w.putExtents(es)
	w.uint32(uint32(n))
	return w.n
}

// vector writes a vector of references to n things; at gives their positions.
func (w *fbWriter) vector(n int, at func(int) int64) int64 {
	w.prep(4, 4*int64(n))
	for i := n - 1; i >= 0; i-- {
		w.offset(at(i))
	}
	w.uint32(uint32(n))
	return w.n
}

// begin starts a table.
func (w *fbWriter) begin() {
	w.start = w.n
	w.slots = [maxFields]int64{}
}

func (w *fbWriter) ref(slot int, p int64) {
	w.offset(p)
	w.slots[slot] = w.n
}

func (w *fbWriter) int64(slot int, v int64) {
	if v != 0 {
		w.prep(8, 0)
		w.uint64(uint64(v))
		w.slots[slot] = w.n
	}
}

func (w *fbWriter) int32(slot int, v int32) {
	if v != 0 {
		w.prep(4, 0)
		w.uint32(uint32(v))
		w.slots[slot] = w.n
	}
}

func (w *fbWriter) int8(slot int, v, unset int8) {
	if v != unset {
		w.put([]byte{byte(v)})
		w.slots[slot] = w.n
	}
}

// finishTable closes the table and gives its position. The table's first
// word refers to its vtable: one written before with the same entries, or a
// new one, which comes right in front of the table.
func (w *fbWriter) finishTable() int64 {
	w.prep(4, 0)
	at := w.n + 4
	var vt vtable
	for i, s := range w.slots {
		if s != 0 {
			vt.entries[i] = uint16(at - s)
			vt.n = i + 1
		}
	}
	if p, ok := w.vtables[vt]; ok {
		w.uint32(uint32(int32(p - at)))
		return at
	}
	size := int64(4 + 2*vt.n)
	w.uint32(uint32(size))
	for i := vt.n - 1; i >= 0; i-- {
		w.uint16(vt.entries[i])
	}
	w.uint16(uint16(at - w.start))
	w.uint16(uint16(size))
	w.vtables[vt] = w.n
	return at
}

// finish writes the reference to the root table, which ends the buffer, and
// gives the buffer's parts in order.
func (w *fbWriter) finish(root int64) ([]extent, error) {
	w.prep(w.align, 4)
	w.offset(root)
	w.flush()
	if w.err != nil {
		return nil, w.err
	}
	es := w.full
	for i, j := 0, len(es)-1; i < j; i, j = i+1, j-1 {
		es[i], es[j] = es[j], es[i]
	}
	return es, nil
}
