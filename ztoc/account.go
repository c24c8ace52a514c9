package ztoc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"hash/crc32"
	"runtime"
	"sync/atomic"

	"github.com/sociable/sociable/ztoc/internal/inflate"
)

// cut is where a span begins.
type cut struct {
	off    int64
	shared bool // the byte at off is the last one of the span before, too
}

// mark is a boundary of gzip members in the output.
type mark struct {
	at    int  // index into the buffer
	begin bool // of a member; else its end
	m     member
}

// spanAccount hashes the compressed bytes span by span. Where there are
// several, each hashes every second span.
type spanAccount struct {
	span        hash.Hash
	lane, lanes int // it hashes the spans whose number is lane, modulo lanes
	sums        *sumList
	start       []uint64 // of all spans, if this is lane 0 and they have cuts
	count       int      // spans so far
	size        int64    // bytes so far
	cuts        []cut    // not reached yet
	every       int64    // bytes of each span, if all are equally long and there are no cuts; else 0
	err         error    // of the spill; what follows is lost
	fault       *atomic.Pointer[error]
}

// take takes the layer's next bytes.
func (a *spanAccount) take(p *parcel) {
	buf := p.buf[:p.n]
	a.cuts = append(a.cuts, p.cuts...)
	for {
		c, ok := a.nextCut(a.size + int64(len(buf)))
		if !ok {
			break
		}
		n := int(c.off - a.size)
		if a.hashes() {
			a.span.Write(buf[:n])
			if c.shared {
				a.span.Write(buf[n : n+1])
			}
			a.closeSpan()
		}
		if a.lane == 0 && a.every == 0 {
			a.start = append(a.start, spanStart(c.off, c.shared))
		}
		a.count++
		a.size += int64(n)
		buf = buf[n:]
	}
	if a.hashes() {
		a.span.Write(buf)
	}
	a.size += int64(len(buf))
}

// hashes says whether a span is under way that is hashed here.
func (a *spanAccount) hashes() bool { return a.count > 0 && (a.count-1)%a.lanes == a.lane }

// nextCut gives the next cut in front of end, once.
func (a *spanAccount) nextCut(end int64) (c cut, ok bool) {
	if a.every > 0 {
		c.off = int64(a.count) * a.every
		return c, c.off < end
	}
	if len(a.cuts) == 0 {
		a.cuts = nil // there may have been many
		return c, false
	}
	if a.cuts[0].off >= end {
		return c, false
	}
	c, a.cuts = a.cuts[0], a.cuts[1:]
	return c, true
}

func (a *spanAccount) closeSpan() {
	var sum [sha256.Size]byte
	a.span.Sum(sum[:0])
	a.span.Reset()
	if a.err != nil {
		return
	}
	if a.err = a.sums.add(&sum); a.err != nil {
		a.fault.CompareAndSwap(nil, &a.err)
	}
}

// finish closes the last span.
func (a *spanAccount) finish() {
	if a.hashes() {
		a.closeSpan()
	}
}

// streamAccount checks the uncompressed stream, hashes it, and reads the tar.
type streamAccount struct {
	size int64     // bytes so far
	max  int64     // most that there may be
	diff hash.Hash // nil if not wanted

	began int64 // size at the beginning of the member
	crc   uint32
	adler hash.Hash32 // of a zlib stream; else nil

	tar    *tarWalk
	tarErr error                 // what the tar's stream ends with, where that isn't its end
	broken error                 // fault of the compressed stream, or a bound
	fault  atomic.Pointer[error] // what ends the build at once, whoever met it
}

// take takes a parcel of output, with the members' boundaries in it.
func (a *streamAccount) take(p *parcel) {
	from := inflate.Window
	for _, m := range p.marks {
		a.output(p.buf[from:m.at])
		from = m.at
		if m.begin {
			a.beginMember(m.m)
		} else {
			a.endMember(m.m)
		}
	}
	a.output(p.buf[from:p.n])
}

// output takes the next bytes of the stream.
func (a *streamAccount) output(buf []byte) {
	if a.broken != nil || len(buf) == 0 {
		return
	}
	a.size += int64(len(buf))
	if a.size > a.max {
		a.refuse(refuse(ClassLimit, a.max, fmt.Errorf("uncompressed stream: %w", ErrMaxUncompressed)))
		return
	}
	if a.adler != nil {
		a.adler.Write(buf)
	} else {
		a.crc = crc32.Update(a.crc, crc32.IEEETable, buf)
	}
	if a.diff != nil {
		a.diff.Write(buf)
	}
	if a.tarErr != nil || a.tar.over {
		return
	}
	a.tar.feed(buf)
	if err := a.tar.err; err != nil && !archiveFault(err) {
		a.fault.CompareAndSwap(nil, &err)
	}
}

// archiveFault says that err is one that a fault of the compressed stream,
// later on, would come before.
func archiveFault(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Class != ClassLimit
}

func (a *streamAccount) beginMember(m member) {
	a.began, a.crc, a.adler = a.size, 0, nil
	if m.zlib {
		a.adler = adler32.New()
	}
	if m.refused && a.tarErr == nil {
		cause := fmt.Errorf("name or comment of more than %d bytes in the gzip header: %w", maxHeaderText, ErrUnsupported)
		if m.zlib {
			cause = fmt.Errorf("zlib stream: %w", ErrNotGzip)
		}
		a.tarErr = refuse(ClassGzipHeader, m.off, cause)
	}
}

func (a *streamAccount) endMember(m member) {
	if a.broken != nil {
		return
	}
	size := uint32(a.size - a.began)
	damaged := func(off int64, what string) {
		a.refuse(refuse(ClassDeflate, off, fmt.Errorf("%s of the member at %d: %w", what, m.off, ErrChecksum)))
	}
	switch {
	case a.adler != nil && a.adler.Sum32() != m.check:
		damaged(m.trailer, "adler-32")
	case a.adler == nil && a.crc != m.check:
		damaged(m.trailer, "crc-32")
	case a.adler == nil && size != m.size:
		damaged(m.trailer+4, "size")
	}
}

// refuse ends the build with a fault that is certain.
func (a *streamAccount) refuse(err error) {
	a.broken = err
	a.fault.CompareAndSwap(nil, &err)
}

// finish ends the tar. streamErr is a fault that the decoder met, which comes
// first.
func (a *streamAccount) finish(streamErr error) error {
	if streamErr == nil {
		streamErr = a.broken
	}
	end := streamErr
	if end == nil {
		end = a.tarErr
	}
	err := a.tar.finish(end)
	switch {
	case streamErr != nil:
		return streamErr
	case a.tarErr != nil && a.firstRefused():
		return a.tarErr
	}
	return err
}

// firstRefused says that the very first member is refused: then nobody reads on
// to see whether the tar needs it.
func (a *streamAccount) firstRefused() bool {
	var e *Error
	return errors.As(a.tarErr, &e) && e.Offset == 0
}

// accounts are all who see a layer's bytes.
type accounts struct {
	spans  []*spanAccount
	layer  hash.Hash // nil if not wanted
	stream *streamAccount
}

// newAccounts makes them. The tar's spill is its own, because it is written
// beside the decoder's.
func newAccounts(spanSize int64, o Options, s *spill) *accounts {
	a := &accounts{stream: &streamAccount{tar: newTarWalk(&spill{dir: o.SpillDir}, o), max: o.MaxUncompressed}}
	lanes := 1
	if !o.SerialHash {
		lanes = min(2, runtime.GOMAXPROCS(0))
	}
	for i := range lanes {
		spans := &spanAccount{span: sha256.New(), lane: i, lanes: lanes, sums: &sumList{spill: s}, fault: &a.stream.fault}
		if o.Compression == Uncompressed {
			spans.every = spanSize
		}
		a.spans = append(a.spans, spans)
	}
	// Of an uncompressed layer, both digests are one and the same.
	if !o.SkipLayerDigest || o.DiffID && o.Compression == Uncompressed {
		a.layer = sha256.New()
	}
	if o.DiffID && o.Compression != Uncompressed {
		a.stream.diff = sha256.New()
	}
	return a
}

// users are what is done with each parcel of compressed bytes, at once.
func (a *accounts) users(c Compression) []func(*parcel) {
	var all []func(*parcel)
	for _, s := range a.spans {
		all = append(all, s.take)
	}
	var rest []func(*parcel)
	if a.layer != nil {
		rest = append(rest, func(p *parcel) { a.layer.Write(p.buf[:p.n]) })
	}
	if c == Uncompressed {
		rest = append(rest, func(p *parcel) { a.stream.output(p.buf[:p.n]) })
	}
	if len(a.spans) > 1 {
		return append(all, rest...)
	}
	return []func(*parcel){func(p *parcel) { // one after another
		for _, do := range append(all, rest...) {
			do(p)
		}
	}}
}

// finish closes the last span and gives all.
func (a *accounts) finish() (*spanSet, error) {
	first := a.spans[0]
	s := &spanSet{size: first.size, n: first.count, every: first.every, start: first.start}
	for _, x := range a.spans {
		x.finish()
		if x.err != nil {
			return nil, x.err
		}
		s.sums = append(s.sums, x.sums)
	}
	return s, nil
}
