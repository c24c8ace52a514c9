package ztoc

import (
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/ztoc/internal/inflate"
)

const (
	inputSize  = 256 << 10 // compressed bytes that are decoded at once
	outputSize = 256 << 10 // bytes of output that are handed on at once
	maxMarks   = 4096      // member boundaries in one output buffer
)

// A Builder makes the zTOC of one layer from its compressed bytes. Decoding
// happens in Write; digests and the tar are seen to in goroutines of its own,
// which end with Finish or Abort: one of the two must be called. A Builder is
// for one goroutine at a time.
type Builder struct {
	spanSize int64
	opt      Options
	codec    codec
	spill    *spill
	accounts *accounts

	in    *parcel // being filled
	end   int     // how far
	inIdx int64   // offset in the layer of in.buf[0]

	work    chan *parcel // to the accounts
	freeIn  chan *parcel
	freeOut chan *parcel
	done    sync.WaitGroup
	closed  bool // work is
	err     error
	over    bool // Finish or Abort has been called
}

// A codec turns the compressed bytes of one layer into the uncompressed stream
// and finds the places at which a span may begin. There is one for each
// Compression.
type codec interface {
	// decode takes src[:end], which begins at offset base of the layer, as far
	// as it can, and gives how many bytes it is done with. Those it leaves come
	// again with more behind them; last says that there is no more. src may be
	// read and, when last, written up to inflate.SrcSlack bytes behind end.
	decode(src []byte, end int, base int64, last bool) (used int, err error)
	// cuts are the beginnings of spans found since it was last called.
	cuts() []cut
	// close ends the output.
	close()
	// zinfo is what a reader needs to begin at each span: the parts of the
	// vector "checkpoints" of a zTOC, and its length.
	zinfo(layerSize int64) ([]extent, int64, error)
	// verdict is whether clients take the spans.
	verdict() error
}

// NewBuilder starts the zTOC of a layer. spanSize is how many bytes of
// uncompressed data a span has at least, in a gzip layer, or exactly, in an
// uncompressed one; DefaultSpanSize is the usual. For gzip it may be 0. An
// error is an *Error of class algorithm, or says that spanSize is out of range.
func NewBuilder(spanSize int64, o Options) (*Builder, error) {
	if spanSize < 0 || spanSize == 0 && o.Compression != Gzip {
		return nil, fmt.Errorf("span size %d of a layer with compression %s: %w", spanSize, o.Compression, ErrUnsupported)
	}
	b := &Builder{
		spanSize: spanSize, opt: o.withDefaults(), spill: &spill{dir: o.SpillDir},
		work: make(chan *parcel, 4), freeIn: make(chan *parcel, 3), freeOut: make(chan *parcel, 3),
	}
	switch o.Compression {
	case Gzip:
		b.codec = newGzipCodec(b)
	case Uncompressed:
		b.codec = &plainCodec{spanSize: spanSize}
	default:
		return nil, refuse(ClassAlgorithm, 0, fmt.Errorf("compression %s: %w", o.Compression, ErrUnsupported))
	}
	for range cap(b.freeIn) {
		b.freeIn <- new(parcel)
		b.freeOut <- &parcel{output: true}
	}
	// The accounts' spill is its own: they run beside the decoder.
	b.accounts = newAccounts(&spill{dir: o.SpillDir}, b.opt)
	b.in = b.input()
	b.done.Add(1)
	go b.keepAccounts()
	return b, nil
}

// keepAccounts is the accounts' goroutine.
func (b *Builder) keepAccounts() {
	defer b.done.Done()
	for p := range b.work {
		if p.output {
			b.accounts.uncompressed(p)
			p.marks = p.marks[:0]
			b.freeOut <- p
		} else {
			b.accounts.compressed(p)
			b.freeIn <- p
		}
	}
}

// input takes a free buffer for compressed bytes.
func (b *Builder) input() *parcel {
	p := <-b.freeIn
	if p.buf == nil {
		p.buf = make([]byte, inputSize+inflate.SrcSlack)
	}
	return p
}

// output takes a free buffer for uncompressed bytes.
func (b *Builder) output() *parcel {
	p := <-b.freeOut
	if p.buf == nil {
		p.buf = make([]byte, inflate.Window+outputSize+inflate.DstSlack)
	}
	return p
}

// Write takes the layer's next bytes; it keeps nothing of p. An error is an
// *Error when the layer is refused, and then every further call gives it too.
func (b *Builder) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if err := b.fault(); err != nil {
			return total, err
		}
		n := copy(b.in.buf[b.end:inputSize], p)
		b.end += n
		total += n
		p = p[n:]
		if b.end == inputSize {
			b.advance(false)
		}
	}
	return total, b.fault()
}

// ReadFrom is Write for all that r has, without a copy.
func (b *Builder) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for {
		if err := b.fault(); err != nil {
			return total, err
		}
		n, err := r.Read(b.in.buf[b.end:inputSize])
		b.end += n
		total += int64(n)
		if b.end == inputSize {
			b.advance(false)
		}
		if err == io.EOF {
			return total, b.fault()
		}
		if err != nil {
			return total, err
		}
	}
}

// fault is what has gone wrong so far.
func (b *Builder) fault() error {
	if b.err == nil {
		if p := b.accounts.fault.Load(); p != nil {
			b.err = *p
		}
	}
	return b.err
}

// advance decodes what is in the input buffer and hands it on.
func (b *Builder) advance(last bool) {
	p := b.in
	used, err := b.codec.decode(p.buf, b.end, b.inIdx, last)
	if err != nil && b.err == nil {
		b.err = err
	}
	if last {
		used = b.end
	}
	rest := p.buf[used:b.end]
	p.n, p.cuts = used, b.codec.cuts()
	p.plain = b.opt.Compression == Uncompressed
	next := b.input()
	copy(next.buf, rest)
	b.in, b.end, b.inIdx = next, len(rest), b.inIdx+int64(used)
	b.work <- p
}

// Finish ends the layer and gives its zTOC. An *Error says that the layer is
// refused.
func (b *Builder) Finish() (*Result, error) {
	if b.over {
		return nil, ErrAborted
	}
	b.over = true
	b.fault()
	if b.err == nil {
		b.advance(true)
		b.codec.close()
	}
	b.stop()
	err := b.accounts.finish(b.err)
	if err == nil {
		var r *Result
		if r, err = b.result(); err == nil {
			return r, nil
		}
	}
	b.free()
	return nil, err
}

// Abort gives up and frees all that the build holds. It may be called at any
// time, also after Finish, whose Result it does not touch.
func (b *Builder) Abort() {
	if b.over {
		return
	}
	b.over = true
	b.stop()
	b.accounts.finish(ErrAborted)
	b.free()
}

// stop waits for the accounts' goroutine.
func (b *Builder) stop() {
	close(b.work)
	b.done.Wait()
}

func (b *Builder) free() {
	b.spill.close()
	b.accounts.tar.entries.spill.close()
}

// result makes the zTOC.
func (b *Builder) result() (*Result, error) {
	a := b.accounts
	zinfo, n, err := b.codec.zinfo(a.size)
	if err != nil {
		return nil, err
	}
	c := contents{
		compressedSize: a.size, archiveSize: a.tar.archive, compression: b.opt.Compression,
		entries: a.tar.entries, numEntries: a.tar.count,
		table: a.table, zinfo: zinfo, zinfoSize: n, links: linksBack{},
	}
	parts, size, err := c.marshal(b.spill, b.opt.MaxSize)
	if err != nil {
		return nil, err
	}
	a.tar.entries.spill.close()
	r := &Result{
		Size:        size,
		LayerSize:   a.size,
		ArchiveSize: a.tar.archive, UncompressedSize: a.out, Entries: a.tar.count, Unreadable: a.tar.unreadable,
		Table: a.table, parts: parts, spill: b.spill,
	}
	if !b.opt.SkipLayerDigest {
		r.LayerDigest = digest.NewDigest(digest.SHA256, a.layer)
	}
	switch {
	case b.opt.DiffID && a.diff != nil:
		r.DiffID = digest.NewDigest(digest.SHA256, a.diff)
	case b.opt.DiffID:
		r.DiffID = digest.NewDigest(digest.SHA256, a.layer)
	}
	for _, err := range []error{a.tar.reject.err, b.codec.verdict(), c.links.verdict()} {
		if r.ClientVerdict == nil {
			r.ClientVerdict = err
		}
	}
	h := digest.SHA256.Digester()
	if _, err := b.spill.writeTo(h.Hash(), parts); err != nil {
		return nil, err
	}
	r.Digest = h.Digest()
	return r, nil
}

// Result is a finished zTOC and what was learnt of the layer on the way.
type Result struct {
	Digest digest.Digest // of the zTOC
	Size   int64

	LayerDigest      digest.Digest // sha256 of the compressed bytes, unless it was to be skipped
	LayerSize        int64
	ArchiveSize      int64         // how far the tar goes: the zTOC's uncompressed_archive_size
	UncompressedSize int64         // of the whole stream
	DiffID           digest.Digest // of the whole stream, if it was asked for
	Entries          int           // files in the table of contents
	// Unreadable is how many of them clients show but cannot open: sparse files,
	// and those with an id beyond 32 bits or a year beyond four digits.
	Unreadable int
	Table      SpanTable
	// ClientVerdict is a *RejectError if today's clients would refuse this
	// zTOC, and nil if not.
	ClientVerdict error

	parts []extent
	spill *spill
}

// WriteTo writes the zTOC. It may be called again until Close.
func (r *Result) WriteTo(w io.Writer) (int64, error) { return r.spill.writeTo(w, r.parts) }

// Close frees what the zTOC was kept in.
func (r *Result) Close() error {
	r.parts = nil
	return r.spill.close()
}
