package ztoc

import "encoding/binary"

const (
	tapeChunk  = 64 << 10
	tapeMemory = 2 << 20 // bytes that are kept in memory; the rest is spilled
)

// tape keeps records until they are read back, last one first. Each is followed
// by its length.
type tape struct {
	spill *spill
	full  []extent
	inMem int // bytes of memory that full holds
	cur   []byte
	bytes int64
}

// add appends a record of up to n bytes, which fill appends to its argument.
func (t *tape) add(n int, fill func([]byte) []byte) error {
	if len(t.cur)+n+4 > cap(t.cur) {
		if err := t.flush(); err != nil {
			return err
		}
		if n+4 > cap(t.cur) { // flush has left none, or one that is too small
			t.cur = make([]byte, 0, max(tapeChunk, n+4))
		}
	}
	start := len(t.cur)
	t.cur = fill(t.cur)
	t.bytes += int64(len(t.cur) - start)
	t.cur = binary.LittleEndian.AppendUint32(t.cur, uint32(len(t.cur)-start))
	return nil
}

// flush puts the current chunk away.
func (t *tape) flush() error {
	if len(t.cur) == 0 {
		return nil
	}
	// A chunk that was made for a large record is used again, not kept.
	if cap(t.cur) == tapeChunk && t.inMem+tapeChunk <= tapeMemory {
		t.full = append(t.full, extent{mem: t.cur, n: int64(len(t.cur))})
		t.inMem += tapeChunk
		t.cur = nil
		return nil
	}
	e, err := t.spill.add(t.cur)
	if err != nil {
		return err
	}
	t.full = append(t.full, e)
	t.cur = t.cur[:0]
	return nil
}

// backward gives each record to fn, last one first, and forgets it.
func (t *tape) backward(fn func([]byte) error) error {
	chunk := t.cur
	var buf []byte
	for {
		for len(chunk) > 0 {
			end := len(chunk) - 4
			start := end - int(binary.LittleEndian.Uint32(chunk[end:]))
			if err := fn(chunk[start:end]); err != nil {
				return err
			}
			chunk = chunk[:start]
		}
		n := len(t.full) - 1
		if n < 0 {
			t.cur = nil
			return nil
		}
		e := t.full[n]
		t.full[n] = extent{}
		t.full = t.full[:n]
		p, err := t.spill.bytes(e, buf)
		if err != nil {
			return err
		}
		if e.mem == nil {
			buf = p
		}
		chunk = p
	}
}
