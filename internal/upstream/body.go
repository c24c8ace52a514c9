package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/sociable/sociable/internal/oci"
)

// Body is a run of a blob's bytes as they come from the upstream. When the
// connection breaks, ends early or falls silent, Read takes the transfer up
// where it stood, as often as Options.Retries allows without a byte of
// progress, and 128 times with next to none, and gives the last error when that is
// spent: io.EOF means that all bytes were read. The bytes are not verified against the blob's digest.
//
// Read is for one goroutine; Close may be called from any, at any time.
type Body struct {
	c      *Client
	ctx    context.Context // the transfer's life, which resumptions need
	cancel context.CancelFunc
	req    *request

	size int64     // as Size says
	rng  oci.Range // as Range says
	stop int64     // the end asked for, -1: the blob's
	none bool      // it is the blob of no bytes

	mu      sync.Mutex // held by Read; guards what follows
	off     int64      // of the next byte to deliver
	until   int64      // where delivery ends, -1: not known yet
	total   int64      // of the whole blob, -1: not known yet
	cur     *answer    // nil: to be connected
	avoid   *endpoint  // it failed last; nil: none did
	skip    int64      // bytes of cur that were not asked for and come first
	curEnd  int64      // where cur ends, -1: unknown
	gained  int64      // bytes delivered since the last connection
	meagre  int        // connections in a row that brought less than meagreBytes
	retrier retrier
	err     error // what Read returns from now on
}

// Size is the size of the whole blob, -1 where the upstream doesn't tell.
func (b *Body) Size() int64 { return b.size }

// Range is what Read delivers; End is -1 where it isn't known beforehand. Of a
// length that is announced by nothing but the connection's end (RFC 9112 §6.3,
// rule 8) nobody can tell whether it was cut short.
func (b *Body) Range() oci.Range { return b.rng }

// Close ends the transfer without reading the rest.
func (b *Body) Close() error {
	b.cancel() // a Read under way lets go of the lock
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop()
	if b.err == nil {
		b.err = errClosed
	}
	return nil
}

var errClosed = errors.New("read of a closed body")

// Read implements io.Reader; see Body.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for b.err == nil {
		if end := b.end(); end >= 0 && b.off >= end {
			b.finish(io.EOF)
			break
		}
		n, err := b.step(p)
		if n > 0 {
			b.advance(n)
			return n, nil
		}
		if err != nil {
			b.finish(err)
		}
	}
	return 0, b.err
}

// end is where delivery ends as far as that is known.
func (b *Body) end() int64 {
	if b.until >= 0 {
		return b.until
	}
	return b.stop
}

// unhindered is how much must have come in one go for the next resumption to
// start without a pause: an upstream that cuts every few bytes is not flooded.
const unhindered = 256 << 10

// An upstream that gives next to nothing at each request would be asked for hours: so
// many in a row that bring less than this end the transfer.
const (
	meagreBytes = 16 << 10
	maxMeagre   = 128
)

func (b *Body) advance(n int) {
	b.off += int64(n)
	b.gained += int64(n)
	b.retrier.failed = 0
	if b.gained >= meagreBytes {
		b.meagre = 0
	}
	if b.gained >= unhindered {
		b.retrier.pausing = noPause
	}
	if end := b.end(); end >= 0 && b.off >= end {
		b.drop() // before the caller's next Read: the slot is wanted
	}
}

// step gets on: it connects, or skips, or reads into p. It fails when nothing
// is to be done any more.
func (b *Body) step(p []byte) (int, error) {
	if b.cur == nil {
		b.gained = 0
		b.c.metrics.resumes.Inc()
		if err := b.connect(); err != nil {
			return 0, b.failed(err)
		}
		return 0, nil
	}
	if b.skip > 0 {
		n, err := io.CopyN(io.Discard, b.cur, b.skip)
		b.skip -= n
		if errors.Is(err, io.EOF) && b.curEnd < 0 {
			err = &RangeError{Size: b.off - b.skip}
		}
		return 0, b.ended(err)
	}
	for _, end := range []int64{b.end(), b.curEnd} {
		if end >= 0 {
			p = p[:min(int64(len(p)), end-b.off)]
		}
	}
	if len(p) == 0 { // all that this answer promised, less than was asked for
		return 0, b.ended(io.EOF)
	}
	n, err := b.cur.Read(p)
	if n > 0 {
		if err != nil && !errors.Is(err, io.EOF) { // tried anew by the next Read
			b.drop()
		}
		return n, nil
	}
	return 0, b.ended(err)
}

// ended decides what the end of the current answer means: the end of the body,
// a failure to get over, or, where it is nil, nothing.
func (b *Body) ended(err error) error {
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, io.EOF):
		return b.failed(err)
	case b.until >= 0 || b.curEnd >= 0:
		return b.failed(unreachable(b.c.opt.Name, b.req.op, errShort))
	case b.off == b.rng.Off && b.off > 0:
		return &RangeError{Size: b.off}
	default:
		return io.EOF // an end that nobody announced is where it is
	}
}

// failed waits before the transfer is taken up again, or says why it isn't.
func (b *Body) failed(err error) error {
	if b.cur != nil {
		b.avoid = b.cur.e
	}
	b.drop()
	if b.gained < meagreBytes {
		if b.meagre++; b.meagre > maxMeagre {
			return err
		}
	}
	if b.off > b.rng.Off {
		r, ok := errors.AsType[*RangeError](err)
		if ok && r.Size == b.off && b.until < 0 {
			return io.EOF // it broke between the last byte and the end
		}
		if ok || is[*ProtocolError](err) {
			// One of several servers behind the name may be at fault; the
			// bytes so far are good.
			err = unreachable(b.c.opt.Name, b.req.op, errors.New(err.Error()))
		}
	}
	return b.retrier.again(b.ctx, err)
}

// connect asks for the bytes from off on and checks that they are what comes;
// an endpoint that sends others is avoided from now on.
func (b *Body) connect() (err error) {
	for range b.c.ends {
		q := *b.req
		q.header, q.avoid = rangeHeader(b.off, b.stop), b.avoid
		var a *answer
		if a, err = b.c.ask(b.ctx, &q); err != nil {
			return b.denied(err)
		}
		if err = b.place(a.Response, q.header != nil); err == nil {
			if b.cur = a; len(b.c.ends) > 1 {
				b.c.senders.note(b.req.path, a.e)
			}
			return nil
		}
		a.Close()
		b.avoid = a.e
		if len(b.c.ends) > 1 {
			b.c.metrics.failovers.Inc()
		}
	}
	return err
}

// denied is err, but for a 416 to what there must be: the first byte of a blob that
// has any, or one in front of the end that the 416 itself names. Who says so may have
// a part of the blob, or none, for now: it is asked again.
func (b *Body) denied(err error) error {
	r, ok := errors.AsType[*RangeError](err)
	if !ok || r.Size <= b.off && (b.off > 0 || b.none) {
		return err
	}
	return unreachable(b.c.opt.Name, b.req.op, fmt.Errorf("status 416 to bytes from %d on, which it must have", b.off))
}

// place finds where in the blob an answer's bytes belong.
func (b *Body) place(resp *http.Response, ranged bool) error {
	wrong := func(format string, args ...any) error {
		return &ProtocolError{Upstream: b.c.opt.Name, Op: string(b.req.op), Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		size := resp.ContentLength
		if err := b.settle(size); err != nil {
			return err
		}
		b.skip, b.curEnd = b.off, size
		return nil
	case resp.StatusCode == http.StatusPartialContent && ranged:
		r, size, err := oci.ParseContentRange(resp.Header.Get("Content-Range"))
		switch {
		case err != nil:
			return wrong("%v", err)
		case r.Len() <= 0 || r.Off != b.off || (b.stop >= 0 && r.End > b.stop):
			return wrong("bytes [%d, %d) where [%d, %d) were asked for", r.Off, r.End, b.off, b.stop)
		case resp.ContentLength >= 0 && resp.ContentLength != r.Len():
			return wrong("%d bytes announced as %d", resp.ContentLength, r.Len())
		}
		if size < 0 && b.until < 0 {
			b.until = r.End
		}
		if err := b.settle(size); err != nil {
			return err
		}
		b.skip, b.curEnd = 0, r.End
		return nil
	default:
		return wrong("status %d", resp.StatusCode)
	}
}

// settle takes the blob's size from an answer; once known it can't change.
func (b *Body) settle(size int64) error {
	switch {
	case size < 0:
		return nil
	case b.total >= 0 && size != b.total:
		return &ProtocolError{
			Upstream: b.c.opt.Name, Op: string(b.req.op),
			Reason: fmt.Sprintf("the blob has %d bytes now, it had %d", size, b.total),
		}
	case b.off > 0 && b.off >= size:
		return &RangeError{Size: size}
	}
	b.total = size
	if b.until < 0 {
		b.until = size
		if b.stop >= 0 {
			b.until = min(b.stop, size)
		}
	}
	return nil
}

func (b *Body) drop() {
	if b.cur != nil {
		b.cur.Close()
		b.cur = nil
	}
}

// finish makes err what Read returns from now on.
func (b *Body) finish(err error) {
	b.drop()
	b.cancel()
	b.err = err
}
