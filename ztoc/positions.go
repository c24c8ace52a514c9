package ztoc

import "slices"

// positions are numbers that are read back in the order in which they were
// added.
type positions struct {
	spill *spill
	full  []extent
	inMem int
	cur   []byte
	buf   []byte // what is left of the extent that is read
	read  []byte // that extents of the file are read into
}

const (
	positionsChunk  = 64 << 10
	positionsMemory = 4 // chunks that are kept in memory; the rest is spilled
)

func (p *positions) add(v uint32) error {
	if len(p.cur)+4 > cap(p.cur) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.cur = append(p.cur, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	return nil
}

func (p *positions) flush() error {
	e := extent{mem: p.cur, n: int64(len(p.cur))}
	switch {
	case len(p.cur) == 0:
		p.cur = make([]byte, 0, positionsChunk)
		return nil
	case p.inMem < positionsMemory:
		p.inMem++
		p.cur = make([]byte, 0, positionsChunk)
	default:
		var err error
		if e, err = p.spill.add(p.cur); err != nil {
			return err
		}
		p.cur = p.cur[:0]
	}
	p.full = append(p.full, e)
	return nil
}

// next gives the number that was added first of those that are left.
func (p *positions) next() (uint32, error) {
	for len(p.buf) == 0 {
		if len(p.full) == 0 {
			p.buf, p.cur = p.cur, nil
			continue
		}
		e := p.full[0]
		var err error
		if p.buf, err = p.spill.bytes(e, p.read); err != nil {
			return 0, err
		}
		if e.mem == nil {
			p.read = p.buf
		}
		p.full = slices.Delete(p.full, 0, 1)
	}
	v := uint32(p.buf[0]) | uint32(p.buf[1])<<8 | uint32(p.buf[2])<<16 | uint32(p.buf[3])<<24
	p.buf = p.buf[4:]
	return v, nil
}
