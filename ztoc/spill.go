package ztoc

import (
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
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
	mu   sync.Mutex // several may add at once; nobody reads meanwhile
	f    *os.File
	name string // to be removed at close; "" if that is done
	end  int64
}

// add appends p and says where it is.
func (s *spill) add(p []byte) (extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// extentReader reads extents as one file.
type extentReader struct {
	spill *spill
	es    []extent
	at    []int64 // where each begins
}

func (s *spill) reader(es []extent) *extentReader {
	r := &extentReader{spill: s, es: es, at: make([]int64, len(es))}
	var at int64
	for i, e := range es {
		r.at[i] = at
		at += e.n
	}
	return r
}

// ReadAt implements io.ReaderAt.
func (r *extentReader) ReadAt(p []byte, off int64) (int, error) {
	i := sort.Search(len(r.at), func(i int) bool { return r.at[i] > off }) - 1
	total := 0
	for ; total < len(p); i++ {
		if i < 0 || i >= len(r.es) {
			return total, io.EOF
		}
		e, from := r.es[i], off+int64(total)-r.at[i]
		if from >= e.n {
			continue
		}
		q := p[total:min(len(p), total+int(e.n-from))]
		if e.mem != nil {
			copy(q, e.mem[from:])
		} else if _, err := r.spill.f.ReadAt(q, e.off+from); err != nil {
			return total, fmt.Errorf("read %d bytes of the spill file: %w", len(q), err)
		}
		total += len(q)
	}
	return total, nil
}

const (
	readSize  = 512 << 10 // how much of the file is read at once
	readAhead = 4         // such pieces, at most
)

// writeTo writes the extents to w, one after another. What is in the file is
// read ahead of w, by a goroutine that ends before writeTo does.
func (s *spill) writeTo(w io.Writer, es []extent) (int64, error) {
	var total int64
	var ahead *pieces
	for i, e := range es {
		for e.n > 0 {
			p := e.mem
			if p == nil {
				if ahead == nil {
					ahead = s.readAll(es[i:])
					defer ahead.stop()
				}
				var err error
				if p, err = ahead.next(); err != nil {
					return total, err
				}
			}
			n, err := w.Write(p)
			total += int64(n)
			if err == nil && n < len(p) {
				err = io.ErrShortWrite
			}
			if err != nil {
				return total, err
			}
			e.n -= int64(len(p))
		}
	}
	return total, nil
}

// pieces are what is read of the file, in order.
type pieces struct {
	full, free chan []byte
	last       []byte // given out
	end        chan struct{}
	err        error // why there are no more; to be looked at when full is closed
	running    sync.WaitGroup
}

// readAll begins to read those of es that are in the file.
func (s *spill) readAll(es []extent) *pieces {
	p := &pieces{full: make(chan []byte, readAhead), free: make(chan []byte, readAhead+1), end: make(chan struct{})}
	for range readAhead {
		p.free <- nil
	}
	p.running.Go(func() {
		defer close(p.full)
		for _, e := range es {
			for ; e.mem == nil && e.n > 0 && p.err == nil; e.off, e.n = e.off+readSize, e.n-readSize {
				select {
				case buf := <-p.free:
					buf, p.err = s.bytes(extent{off: e.off, n: min(e.n, readSize)}, buf)
					p.full <- buf
				case <-p.end:
					return
				}
			}
		}
	})
	return p
}

// next gives the next piece, until it is called again.
func (p *pieces) next() ([]byte, error) {
	if p.last != nil {
		p.free <- p.last[:0]
	}
	var more bool
	if p.last, more = <-p.full; more && p.last != nil {
		return p.last, nil
	}
	return nil, p.err
}

// stop ends the reading.
func (p *pieces) stop() {
	close(p.end)
	p.running.Wait()
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
