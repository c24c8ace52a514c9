package ztoc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"hash/crc32"
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

// parcel is a buffer on its way from the decoder to the accounts, which give
// it back when they are done with it.
type parcel struct {
	output bool // uncompressed bytes: buf[inflate.Window:n]; else compressed: buf[:n]
	buf    []byte
	n      int
	cuts   []cut  // compressed: where spans begin, perhaps a byte behind n
	plain  bool   // compressed: it is the output, too
	marks  []mark // output: rises
}

// accounts do all that must see each byte but need not decode: digests,
// checksums, the tar. They run in a goroutine of their own.
type accounts struct {
	layer, span, diff hash.Hash // layer and diff are nil if not wanted
	table             SpanTable
	size              int64 // compressed bytes so far
	out               int64 // uncompressed bytes so far
	cuts              []cut // not reached yet
	open              bool  // a span is under way

	m     member // current one
	began int64  // out at its beginning
	crc   uint32
	adler hash.Hash32 // of a zlib stream; else nil

	tar    *tarWalk
	tarErr error // what the tar's stream ends with, where that isn't its end
	broken error // fault of the compressed stream

	early  bool // report a fault of the tar at once
	maxOut int64
	fault  atomic.Pointer[error] // set once: a fault that is certain, for the decoder to see
}

func newAccounts(s *spill, o Options) *accounts {
	a := &accounts{span: sha256.New(), tar: newTarWalk(s, o), early: o.EarlyRefusal, maxOut: o.MaxUncompressed}
	// Of an uncompressed layer, they are one and the same.
	if !o.SkipLayerDigest || o.DiffID && o.Compression == Uncompressed {
		a.layer = sha256.New()
	}
	if o.DiffID && o.Compression == Gzip {
		a.diff = sha256.New()
	}
	return a
}

// compressed takes the layer's next bytes.
func (a *accounts) compressed(p *parcel) {
	buf := p.buf[:p.n]
	if a.layer != nil {
		a.layer.Write(buf)
	}
	a.cuts = append(a.cuts, p.cuts...)
	if p.plain && a.broken == nil {
		a.output(buf)
	}
	for len(a.cuts) > 0 && a.cuts[0].off < a.size+int64(len(buf)) {
		c := a.cuts[0]
		a.cuts = a.cuts[1:]
		n := int(c.off - a.size)
		if a.open {
			a.span.Write(buf[:n])
			if c.shared {
				a.span.Write(buf[n : n+1])
			}
			a.closeSpan()
		}
		a.table.add(c.off, c.shared)
		a.open = true
		a.size += int64(n)
		buf = buf[n:]
	}
	if a.open {
		a.span.Write(buf)
	}
	a.size += int64(len(buf))
}

func (a *accounts) closeSpan() {
	a.table.sum = a.span.Sum(a.table.sum)
	a.span.Reset()
}

// uncompressed takes a parcel of output, with the members' boundaries in it.
func (a *accounts) uncompressed(p *parcel) {
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

// output takes the next bytes of the uncompressed stream.
func (a *accounts) output(buf []byte) {
	if a.broken != nil || len(buf) == 0 {
		return
	}
	a.out += int64(len(buf))
	if a.out > a.maxOut {
		a.refuse(refuse(ClassLimit, a.maxOut, fmt.Errorf("uncompressed stream: %w", ErrTooLarge)))
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
	if err := a.tar.err; err != nil && (a.early || !archiveFault(err)) {
		a.fault.CompareAndSwap(nil, &err)
	}
}

// archiveFault says that err is one that a fault of the compressed stream,
// later on, would come before.
func archiveFault(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Class != ClassLimit
}

func (a *accounts) beginMember(m member) {
	a.m, a.began, a.crc, a.adler = m, a.out, 0, nil
	if m.zlib {
		a.adler = adler32.New()
	}
	if m.refused && a.tarErr == nil {
		a.tarErr = refuse(ClassGzipHeader, m.off, ErrNotGzip)
	}
}

func (a *accounts) endMember(m member) {
	if a.broken != nil {
		return
	}
	size := uint32(a.out - a.began)
	switch {
	case a.adler != nil && a.adler.Sum32() != m.check:
		a.refuse(refuse(ClassDeflate, m.off, fmt.Errorf("zlib stream: adler-32: %w", ErrChecksum)))
	case a.adler == nil && a.crc != m.check:
		a.refuse(refuse(ClassDeflate, m.off, fmt.Errorf("gzip member: crc-32: %w", ErrChecksum)))
	case a.adler == nil && size != m.size:
		a.refuse(refuse(ClassDeflate, m.off, fmt.Errorf("gzip member: size: %w", ErrChecksum)))
	}
}

// refuse ends the build with a fault of the stream.
func (a *accounts) refuse(err error) {
	a.broken = err
	a.fault.CompareAndSwap(nil, &err)
}

// finish closes the last span and ends the tar. streamErr is a fault that the
// decoder met, which comes first.
func (a *accounts) finish(streamErr error) error {
	if a.open {
		a.closeSpan()
	}
	a.table.size = a.size
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
func (a *accounts) firstRefused() bool {
	var e *Error
	return errors.As(a.tarErr, &e) && e.Offset == 0
}
