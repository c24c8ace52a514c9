package proxy

import (
	"io"
	"sync"
)

// slowChunk is what one read from an upstream may bring that has less to give than
// that whenever it is asked.
const slowChunk = 64 << 10

// buffers are reused for copying.
type buffers struct {
	size int
	pool sync.Pool
}

func newBuffers(size int) *buffers {
	return &buffers{size, sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

func (b *buffers) get() []byte { return *b.pool.Get().(*[]byte) }

func (b *buffers) put(p []byte) { b.pool.Put(&p) }

// intake is the buffer that a fill's pump reads into. It holds that while it waits
// for its upstream, too: where many transfers share a link, each gets little at a
// time, and waits with a small one.
type intake struct {
	small, large *buffers
	of           *buffers // buf's
	buf          []byte
	last         int // what the last read brought
}

func (p *Proxy) newIntake() *intake {
	return &intake{small: p.slow, large: p.bufs, of: p.slow, buf: p.slow.get()}
}

// read is r's Read. What it gives is good until the next one.
func (in *intake) read(r io.Reader) ([]byte, error) {
	fits := in.large
	if in.last < in.small.size {
		fits = in.small
	}
	if fits != in.of {
		in.of.put(in.buf)
		in.of, in.buf = fits, fits.get()
	}
	n, err := r.Read(in.buf)
	in.last = n
	return in.buf[:n], err
}

func (in *intake) close() { in.of.put(in.buf) }
