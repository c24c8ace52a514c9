package ztoc

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// A Builder makes the zTOC of one layer from its compressed bytes. Decoding
// happens in Write; goroutines of its own see to digests on the one hand,
// checksums and the tar on the other. They end with Finish or Abort: one of the
// two must be called. A Builder is for one goroutine at a time.
type Builder struct {
	spanSize int64
	opt      Options
	codec    codec
	spill    *spill
	seen     *accounts
	stream   *streamAccount // of seen

	in   *parcel // being filled
	end  int     // how far
	base int64   // offset in the layer of in.buf[0]

	compressed, output *belt
	running            sync.WaitGroup
	err                error
	over               bool // Finish or Abort has been called
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
	// cuts appends the beginnings of spans found since it was last called.
	cuts([]cut) []cut
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
// error is an *Error of class algorithm or span-size.
func NewBuilder(spanSize int64, o Options) (*Builder, error) {
	if spanSize < 0 || spanSize == 0 && o.Compression != Gzip {
		return nil, refuse(ClassSpanSize, 0, fmt.Errorf("span size %d of a layer with compression %s: %w", spanSize, o.Compression, ErrUnsupported))
	}
	b := &Builder{spanSize: spanSize, opt: o.withDefaults(), spill: &spill{dir: o.SpillDir}}
	switch o.Compression {
	case Gzip:
		b.codec = newGzipCodec(b)
	case Uncompressed:
		b.codec = &plainCodec{spanSize: spanSize, maxSize: b.opt.MaxSize}
	default:
		return nil, refuse(ClassAlgorithm, 0, fmt.Errorf("compression %s: %w", o.Compression, ErrUnsupported))
	}
	b.seen = newAccounts(spanSize, b.opt, b.spill)
	b.stream = b.seen.stream
	users, most := b.seen.users(o.Compression), beltParcels
	if len(b.seen.spans) > 1 {
		most += moreParcels
	}
	b.compressed = newBelt(inputs, most, len(users))
	b.output = newBelt(outputs, beltParcels, 1)
	b.in = b.compressed.take()
	for i, do := range users {
		b.running.Go(func() { b.compressed.each(i, do) })
	}
	b.running.Go(func() { b.output.each(0, b.stream.take) })
	return b, nil
}

// Write takes the layer's next bytes; it keeps nothing of p. An error is an
// *Error when the layer is refused, and then every further call gives it too,
// until Finish or Abort; ErrAborted from then on.
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

// maxEmptyReads in a row are taken for a reader that gives nothing any more.
const maxEmptyReads = 100

// ReadFrom is Write for all that r has, without a copy. Errors are Write's, r's,
// and io.ErrNoProgress where r goes on giving nothing.
func (b *Builder) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	empty := 0
	for {
		if err := b.fault(); err != nil {
			return total, err
		}
		n, err := r.Read(b.in.buf[b.end:inputSize])
		b.end += n
		total += int64(n)
		if empty++; n > 0 {
			empty = 0
		}
		if empty >= maxEmptyReads && err == nil {
			return total, io.ErrNoProgress
		}
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
	if b.over || b.stream == nil {
		return ErrAborted
	}
	if b.err == nil {
		if p := b.stream.fault.Load(); p != nil {
			b.err = *p
		}
	}
	return b.err
}

// advance decodes what is in the input buffer and hands it on.
func (b *Builder) advance(last bool) {
	p := b.in
	used, err := b.codec.decode(p.buf, b.end, b.base, last)
	if err != nil && b.err == nil {
		b.err = err
	}
	if last {
		used = b.end
	}
	rest := p.buf[used:b.end]
	p.n, p.cuts = used, b.codec.cuts(p.cuts)
	next := b.compressed.take()
	copy(next.buf, rest)
	b.in, b.end, b.base = next, len(rest), b.base+int64(used)
	b.compressed.give(p)
}

// Finish ends the layer and gives its zTOC. An *Error says that the layer is
// refused.
func (b *Builder) Finish() (*Result, error) {
	if b.over || b.stream == nil {
		return nil, ErrAborted
	}
	if b.fault() == nil {
		b.advance(true)
		b.codec.close()
	}
	b.over = true
	b.stop()
	spans, broken := b.seen.finish()
	err := b.stream.finish(b.err)
	if err == nil {
		err = broken
	}
	if err == nil {
		var r *Result
		if r, err = b.result(spans); err == nil {
			return r, nil
		}
	}
	b.free()
	return nil, err
}

// Abort gives up and frees all that the build holds. It may be called at any
// time, also after Finish, whose Result it does not touch.
func (b *Builder) Abort() {
	if b.over || b.stream == nil { // or the zero Builder
		return
	}
	b.over = true
	b.stop()
	_ = b.stream.finish(ErrAborted) // which is what it gives back
	b.free()
}

// stop waits for the goroutines.
func (b *Builder) stop() {
	b.compressed.end()
	b.output.end()
	b.running.Wait()
	b.compressed.free <- b.in
	b.compressed.recycle()
	b.output.recycle()
	b.compressed, b.output, b.in = nil, nil, nil
}

func (b *Builder) free() {
	_ = b.spill.close() // nothing in it is wanted
	_ = b.stream.tar.entries.close()
}

// result makes the zTOC.
func (b *Builder) result(spans *spanSet) (*Result, error) {
	tar := b.stream.tar
	zinfo, n, err := b.codec.zinfo(spans.size)
	if err != nil {
		return nil, err
	}
	c := contents{
		compressedSize: spans.size, archiveSize: tar.archive, compression: b.opt.Compression,
		entries: tar.entries, numEntries: tar.count,
		spans: spans, zinfo: zinfo, zinfoSize: n, links: newLinksBack(),
	}
	parts, size, err := c.marshal(b.spill, b.opt.MaxSize)
	if err != nil {
		return nil, err
	}
	r := &Result{
		Size:      size,
		LayerSize: spans.size, ArchiveSize: tar.archive, UncompressedSize: b.stream.size,
		Entries: tar.count, Spans: spans.n, unreadable: tar.unreadable,
		spans: spans, parts: parts, spill: b.spill,
	}
	if !b.opt.SkipLayerDigest {
		r.LayerDigest = digest.NewDigest(digest.SHA256, b.seen.layer)
	}
	switch {
	case b.opt.DiffID && b.stream.diff != nil:
		r.DiffID = digest.NewDigest(digest.SHA256, b.stream.diff)
	case b.opt.DiffID:
		r.DiffID = digest.NewDigest(digest.SHA256, b.seen.layer)
	}
	if r.reject, err = b.verdict(c.links, parts, size); err != nil {
		return nil, err
	}
	_ = tar.entries.close() // it has been read
	h := digest.SHA256.Digester()
	if _, err := b.spill.writeTo(h.Hash(), parts); err != nil {
		return nil, err
	}
	r.Digest = h.Digest()
	return r, nil
}

// verdict is what clients say to the zTOC: a *RejectError, or nil.
func (b *Builder) verdict(links *linksBack, parts []extent, size int64) (reject, err error) {
	tar := b.stream.tar
	if reject = tar.reject.err; reject == nil {
		reject = b.codec.verdict()
	}
	if reject != nil {
		return reject, nil
	}
	err = links.verdict(tar.entries, b.spill.reader(parts), size)
	if dead := new(RejectError); errors.As(err, &dead) {
		return dead, nil
	}
	if err != nil {
		return nil, err
	}
	return tar.reject.unfit(tar.archive, tar.unreadable, tar.count), nil
}
