package ztoc

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
)

const (
	sumChunk  = 2048 * sha256.Size // digests are kept in pieces of so many bytes
	sumMemory = 16                 // pieces that are kept in memory; the rest is spilled
)

// sumList are digests, in order.
type sumList struct {
	spill *spill
	n     int
	full  []extent
	inMem int
	cur   []byte
}

func (l *sumList) add(sum *[sha256.Size]byte) error {
	if len(l.cur)+sha256.Size > cap(l.cur) {
		if err := l.flush(); err != nil {
			return err
		}
	}
	l.cur = append(l.cur, sum[:]...)
	l.n++
	return nil
}

func (l *sumList) flush() error {
	switch {
	case len(l.cur) == 0:
	case l.inMem < sumMemory:
		l.full = append(l.full, extent{mem: l.cur, n: int64(len(l.cur))})
		l.inMem++
	default:
		e, err := l.spill.add(l.cur)
		if err != nil {
			return err
		}
		l.full, l.cur = append(l.full, e), l.cur[:0]
		return nil
	}
	// Most layers have few spans.
	l.cur = make([]byte, 0, min(sumChunk, max(16*sha256.Size, 2*cap(l.cur))))
	return nil
}

// spanSet is where the spans of a build are and what they hash to.
type spanSet struct {
	size  int64 // of the layer
	n     int
	every int64      // bytes of each span, if all are equally long; else 0
	start []uint64   // as in SpanTable, if they are not
	sums  []*sumList // digest i is in list i modulo their number
}

// digests gives the digests one after another.
func (s *spanSet) digests() *sumReader {
	r := &sumReader{}
	for _, l := range s.sums {
		all := l.spill.reader(append(l.full[:len(l.full):len(l.full)], extent{mem: l.cur, n: int64(len(l.cur))}))
		r.from = append(r.from, bufio.NewReaderSize(io.NewSectionReader(all, 0, int64(l.n)*sha256.Size), sumChunk/4))
	}
	return r
}

// sumReader reads digests in the order of the spans.
type sumReader struct {
	from []*bufio.Reader
	i    int
}

// next gives the next digest, in buf.
func (r *sumReader) next(buf []byte) error {
	_, err := io.ReadFull(r.from[r.i], buf[:sha256.Size])
	if err != nil {
		return fmt.Errorf("read span digests: %w", err)
	}
	r.i = (r.i + 1) % len(r.from)
	return nil
}

// table gives all in memory.
func (s *spanSet) table() (SpanTable, error) {
	if s.n == 0 {
		return SpanTable{size: s.size}, nil
	}
	t := SpanTable{size: s.size, start: s.start, sum: make([]byte, s.n*sha256.Size)}
	if s.every > 0 {
		t.start = make([]uint64, 0, s.n)
		for i := range int64(s.n) {
			t.add(i*s.every, false)
		}
	}
	r := s.digests()
	for i := range s.n {
		if err := r.next(t.sum[i*sha256.Size:]); err != nil {
			return SpanTable{}, err
		}
	}
	return t, nil
}
