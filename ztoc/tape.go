package ztoc

import (
	"encoding/binary"
	"slices"
)

const (
	tapeChunk  = 64 << 10
	tapeMemory = 16 // chunks that are kept in memory; the rest is spilled
)

// tape keeps texts until they are read back, last one first. Each is followed by
// its length, so that they may lie across chunks and no more than one of them is
// ever looked at.
type tape struct {
	spill *spill   // of its own: chunk i of those that are in it begins at i chunks
	mem   [][]byte // the first chunks
	cur   []byte
	full  int64 // chunks in front of cur
	err   error // of the spill; what follows is lost
}

// size is how many bytes there are.
func (t *tape) size() int64 { return t.full*tapeChunk + int64(len(t.cur)) }

// text appends a text.
func (t *tape) text(s []byte) {
	t.put(s)
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(s)))
	t.put(n[:])
}

func (t *tape) put(p []byte) {
	for len(p) > 0 && t.err == nil {
		if len(t.cur) == cap(t.cur) {
			t.flush()
		}
		n := min(len(p), cap(t.cur)-len(t.cur))
		t.cur = append(t.cur, p[:n]...)
		p = p[n:]
	}
}

// flush puts a full chunk away and takes an empty one.
func (t *tape) flush() {
	if cap(t.cur) == 0 {
		t.cur = make([]byte, 0, tapeChunk)
		return
	}
	t.full++
	if len(t.mem) < tapeMemory {
		t.mem = append(t.mem, t.cur)
		t.cur = make([]byte, 0, tapeChunk)
		return
	}
	_, t.err = t.spill.add(t.cur)
	t.cur = t.cur[:0]
}

// close frees what the tape holds.
func (t *tape) close() error {
	t.mem, t.cur = nil, nil
	return t.spill.close()
}

// tapeReader reads a tape from its end to its beginning.
type tapeReader struct {
	t     *tape
	buf   []byte
	lo    int // what is left of the chunks that were read is buf[lo:hi]
	hi    int
	chunk int64 // that is read next; -1 when none is left
	err   error // of the spill; then everything is empty
}

// backward begins to read what is there. It may be done again.
func (t *tape) backward() *tapeReader { return &tapeReader{t: t, chunk: t.full, err: t.err} }

// more says whether there is anything left.
func (r *tapeReader) more() bool {
	return r.err == nil && (r.hi > r.lo || r.chunk > 0 || r.chunk == 0 && len(r.t.cur)+len(r.t.mem) > 0)
}

// text gives the text in front of what was read last. It is good until the next
// call.
func (r *tapeReader) text() []byte {
	p := r.take(4)
	if p == nil {
		return nil
	}
	return r.take(int(binary.LittleEndian.Uint32(p)))
}

// take gives the n bytes in front of what was read last.
func (r *tapeReader) take(n int) []byte {
	for r.hi-r.lo < n && r.err == nil {
		r.load(n)
	}
	if r.err != nil {
		return nil
	}
	r.hi -= n
	return r.buf[r.hi : r.hi+n]
}

// load reads the next chunk, on the way to n bytes.
func (r *tapeReader) load(n int) {
	size := tapeChunk
	if r.chunk == r.t.full {
		size = len(r.t.cur)
	}
	if r.lo < size {
		rest := r.buf[r.lo:r.hi]
		if want := tapeChunk + n; len(r.buf) < want {
			r.buf = slices.Grow([]byte(nil), want)
			r.buf = r.buf[:cap(r.buf)]
		}
		r.hi = len(r.buf)
		r.lo = r.hi - len(rest)
		copy(r.buf[r.lo:], rest)
	}
	r.lo -= size
	to := r.buf[r.lo:][:size]
	switch {
	case r.chunk == r.t.full:
		copy(to, r.t.cur)
	case r.chunk < int64(len(r.t.mem)):
		copy(to, r.t.mem[r.chunk])
	default:
		e := extent{off: (r.chunk - int64(len(r.t.mem))) * tapeChunk, n: tapeChunk}
		_, r.err = r.t.spill.bytes(e, to)
	}
	r.chunk--
}
