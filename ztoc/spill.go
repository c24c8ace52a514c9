package ztoc

import (
	"fmt"
	"io"
	"os"
)

// extent is a run of bytes in memory, or in the spill file where mem is nil.
type extent struct {
	mem []byte
	off int64
	n   int64
}

// spill is a temporary file that is made when it is first needed. It has no
// name where the system allows that, so that a killed process leaves nothing.
type spill struct {
	dir  string
	f    *os.File
	name string // to be removed at close; "" if that is done
	end  int64
}

// add appends p and says where it is.
func (s *spill) add(p []byte) (extent, error) {
	if s.f == nil {
		if err := s.open(); err != nil {
			return extent{}, err
		}
	}
	if _, err := s.f.WriteAt(p, s.end); err != nil {
		return extent{}, fmt.Errorf("write %d bytes to the spill file: %w", len(p), err)
	}
	e := extent{off: s.end, n: int64(len(p))}
	s.end += e.n
	return e, nil
}

func (s *spill) open() error {
	f, err := os.CreateTemp(s.dir, "ztoc-*.spill")
	if err != nil {
		return fmt.Errorf("make a spill file: %w", err)
	}
	s.f, s.name = f, f.Name()
	if os.Remove(s.name) == nil {
		s.name = ""
	}
	return nil
}

// bytes gives e's bytes, in buf if they are in the file and fit there.
func (s *spill) bytes(e extent, buf []byte) ([]byte, error) {
	if e.mem != nil || e.n == 0 {
		return e.mem, nil
	}
	if int64(cap(buf)) < e.n {
		buf = make([]byte, e.n)
	}
	buf = buf[:e.n]
	if _, err := s.f.ReadAt(buf, e.off); err != nil {
		return nil, fmt.Errorf("read %d bytes of the spill file: %w", e.n, err)
	}
	return buf, nil
}

// writeTo writes the extents to w, one after another.
func (s *spill) writeTo(w io.Writer, es []extent) (int64, error) {
	var total int64
	var buf []byte
	for _, e := range es {
		for e.n > 0 {
			part := e
			if e.mem == nil {
				part.n = min(e.n, 64<<10)
			}
			p, err := s.bytes(part, buf)
			if err != nil {
				return total, err
			}
			if e.mem == nil {
				buf = p
			}
			n, err := w.Write(p)
			total += int64(n)
			if err != nil {
				return total, err
			}
			e.off += part.n
			e.n -= part.n
		}
	}
	return total, nil
}

// close frees the file. It may be called again, and on nil.
func (s *spill) close() error {
	if s == nil || s.f == nil {
		return nil
	}
	err := s.f.Close()
	if s.name != "" {
		if e := os.Remove(s.name); err == nil {
			err = e
		}
	}
	s.f = nil
	return err
}
