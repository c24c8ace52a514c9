package ztoc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/ztoc/internal/inflate"
)

const (
	wholeSpan  = 16 << 20 // compressed spans up to this are verified before they are used
	extractIn  = 64 << 10
	extractOut = 64 << 10
	maxLinks   = 32 // hard links that lead to hard links
)

// Extract writes the content of a file to w, reading only the spans of layer
// that hold it. The digest of each is checked before any of its bytes are written. One
// that has more than 16 MiB, compressed, is read for that once more than it is
// held, and checked again as it is decoded: when layer's bytes change meanwhile,
// ErrDigest comes behind bytes that may be wrong. A hard link is the file in front
// of it that it names, though another of that name may come later. name is as in
// Lookup. Errors: ErrNotFound, ErrUnsupported for what is not a file, or is a sparse
// one, ErrDigest, ErrInvalid, ctx's cause, or those of layer and w.
func (z *ZTOC) Extract(ctx context.Context, name string, layer io.ReaderAt, w io.Writer) (int64, error) {
	e, err := z.File(name)
	if err != nil {
		return 0, err
	}
	n, err := z.readRange(ctx, e.Offset, e.Size, layer, w, ErrInvalid)
	if err != nil {
		return n, fmt.Errorf("extract %s: %w", name, err)
	}
	return n, nil
}

// File finds the regular file that name leads to, hard links followed, as Extract
// does. Its data are inside the archive, and are the file's content: of a sparse
// file they are not. Errors: ErrNotFound, ErrUnsupported for what is no regular
// file or a sparse one, or ErrInvalid.
func (z *ZTOC) File(name string) (Entry, error) {
	e, at, err := z.lookup(name, z.entries.n)
	for i := 0; err == nil && e.Type == TypeHardlink; i++ {
		if i == maxLinks {
			return Entry{}, fmt.Errorf("%s: too many hard links: %w", name, ErrInvalid)
		}
		link := e
		if e, at, err = z.lookup(link.Linkname, at); errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%q links to %q, which is not in front of it: %w", link.Name, link.Linkname, ErrNotFound)
		}
	}
	switch {
	case err != nil:
	case e.Type == TypeSymlink:
		err = fmt.Errorf("%s is a symlink to %q: %w", name, e.Linkname, ErrUnsupported)
	case e.Type != TypeReg && slices.Contains(entryTypes[:], e.Type):
		err = fmt.Errorf("%s is a %s: %w", name, e.Type, ErrUnsupported)
	case e.Type != TypeReg:
		err = fmt.Errorf("%s is of type %q: %w", name, e.Type, ErrUnsupported)
	case e.sparse():
		err = fmt.Errorf("%s is a sparse file: %w", name, ErrUnsupported)
	case endOf(e.Offset, e.Size) > z.ArchiveSize:
		err = fmt.Errorf("%s is said to have %d bytes at %d of an archive of %d: %w", name, e.Size, e.Offset, z.ArchiveSize, ErrInvalid)
	}
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

// ReadSpan writes the uncompressed bytes of span i to w, the last one's to the
// end of the layer. What is checked is as with Extract. Errors: ErrNotFound where
// there is no span i, ErrDigest, ErrInvalid, ErrTruncated where an uncompressed
// span has too few bytes, ctx's cause, or those of layer and w.
func (z *ZTOC) ReadSpan(ctx context.Context, i int, layer io.ReaderAt, w io.Writer) (int64, error) {
	s, err := z.spans()
	if err != nil {
		return 0, err
	}
	if i < 0 || i >= z.NumSpans {
		return 0, fmt.Errorf("span %d of %d: %w", i, z.NumSpans, ErrNotFound)
	}
	end := int64(-1)
	if i+1 < z.NumSpans {
		end = s.out[i+1]
	}
	return z.readSpan(ctx, s, i, s.out[i], end, layer, w)
}

// ReadRange writes n bytes of the uncompressed stream from off on to w. What is
// checked is as with Extract. Errors: ErrRange where the stream has no such
// bytes, before any is read of an uncompressed layer, and of a gzip layer behind
// those that it has; otherwise as those of ReadSpan.
func (z *ZTOC) ReadRange(ctx context.Context, off, n int64, layer io.ReaderAt, w io.Writer) (int64, error) {
	return z.readRange(ctx, off, n, layer, w, ErrRange)
}

// readRange is ReadRange; fault is what bytes are that the stream cannot have.
func (z *ZTOC) readRange(ctx context.Context, off, n int64, layer io.ReaderAt, w io.Writer, fault error) (int64, error) {
	s, err := z.spans()
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	if z.NumSpans == 0 || off < s.out[0] || n < 0 || off > 1<<62-n || z.Compression == Uncompressed && off+n > z.LayerSize {
		return 0, fmt.Errorf("%d bytes at %d: %w", n, off, fault)
	}
	var total int64
	for i := s.of(off); total < n; i++ {
		end := off + n
		if i+1 < z.NumSpans {
			end = min(end, s.out[i+1])
		}
		k, err := z.readSpan(ctx, s, i, off+total, end, layer, w)
		total += k
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// readSpan writes what span i has of the uncompressed bytes [from, to); to < 0
// is the end of the stream.
func (z *ZTOC) readSpan(ctx context.Context, s *spanInfo, i int, from, to int64, layer io.ReaderAt, w io.Writer) (int64, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	sp := s.table.Span(i)
	src := io.NewSectionReader(layer, sp.Off, sp.End-sp.Off)
	if err := verifySpan(ctx, &src, sp); err != nil {
		return 0, fmt.Errorf("span %d: %w", i, err)
	}
	if sp.End-sp.Off <= wholeSpan {
		return z.decodeSpan(ctx, s, i, from, to, src, w)
	}
	h := sha256.New()
	again := &ctxReader{ctx, io.TeeReader(src, h)}
	n, err := z.decodeSpan(ctx, s, i, from, to, again, w)
	if err != nil && !errors.Is(err, ErrInvalid) {
		return n, err
	}
	if _, e := io.Copy(io.Discard, again); e != nil {
		return n, errors.Join(err, e)
	}
	if digest.NewDigest(digest.SHA256, h) != sp.Digest { // the layer's fault, whatever the decoder said
		err = fmt.Errorf("span %d, read once more: %w", i, ErrDigest)
	}
	return n, err
}

// decodeSpan writes what src, the verified bytes of span i, has of the
// uncompressed bytes [from, to).
func (z *ZTOC) decodeSpan(ctx context.Context, s *spanInfo, i int, from, to int64, src io.Reader, w io.Writer) (int64, error) {
	if z.Compression == Uncompressed {
		sp := s.table.Span(i)
		if to < 0 {
			to = sp.End
		}
		if _, err := io.CopyN(io.Discard, src, min(from, sp.End)-sp.Off); err != nil {
			return 0, fmt.Errorf("span %d: %w", i, unexpected(err))
		}
		n, err := io.Copy(w, &ctxReader{ctx, io.LimitReader(src, min(to, sp.End)-from)})
		if err == nil && n < to-from {
			err = fmt.Errorf("span %d: %w", i, ErrTruncated)
		}
		return n, err
	}
	window := make([]byte, windowSize)
	if i >= z.implicit {
		off := z.zinfo.off + zinfoHeader + int64(i-z.implicit)*checkpointSize + 17
		if n, err := z.r.ReadAt(window, off); n < len(window) {
			return 0, fmt.Errorf("read window of span %d: %w", i, err)
		}
	}
	x := extractors.Get().(*extractor)
	defer func() {
		x.src = nil // may be a whole span
		extractors.Put(x)
	}()
	x.start(src, int(s.bits[i]), window)
	x.skip = from - s.out[i]
	x.left = to - from
	if to < 0 {
		x.left = 1<<62 - 1
	}
	n, err := x.run(ctx, w)
	if err == nil && to >= 0 && n < to-from {
		if err = fmt.Errorf("%w: %w", ErrTruncated, ErrInvalid); i == z.NumSpans-1 && to > z.ArchiveSize {
			err = fmt.Errorf("%d bytes at %d, of which there are %d: %w", to-from, from, n, ErrRange) // nobody said that there are more
		}
	}
	if err != nil {
		return n, fmt.Errorf("span %d: %w", i, err)
	}
	return n, nil
}

// verifySpan checks the span's digest. A span of common size is read once, and
// src is then what was read.
func verifySpan(ctx context.Context, src **io.SectionReader, sp Span) error {
	h := sha256.New()
	size := sp.End - sp.Off
	if size <= wholeSpan {
		p := make([]byte, size)
		if n, err := (*src).ReadAt(p, 0); int64(n) < size {
			return fmt.Errorf("read %d bytes at %d of the layer: %w", size, sp.Off, unexpected(err))
		}
		h.Write(p)
		*src = io.NewSectionReader(bytes.NewReader(p), 0, size)
	} else if n, err := io.Copy(h, &ctxReader{ctx, *src}); err != nil || n < size {
		return fmt.Errorf("read %d bytes at %d of the layer: %w", size, sp.Off, unexpected(err))
	}
	if digest.NewDigest(digest.SHA256, h) != sp.Digest {
		return fmt.Errorf("%d bytes at %d of the layer: %w", size, sp.Off, ErrDigest)
	}
	_, err := (*src).Seek(0, io.SeekStart)
	return err
}

func unexpected(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ctxReader is a reader that ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// extractor decodes one span after another.
type extractor struct {
	g    gunzip
	src  io.Reader
	skip int64 // bytes of output to leave out
	left int64 // bytes of output to write
	from int   // where in Dst the output begins that run has not seen
}

var extractors = sync.Pool{New: func() any {
	x := new(extractor)
	x.g.Src = make([]byte, extractIn+inflate.SrcSlack)
	x.g.Dst = make([]byte, inflate.Window+extractOut+inflate.DstSlack)
	return x
}}

// start begins at a checkpoint: bits high bits of the first byte belong to the
// span, or all of it if that is 0.
func (x *extractor) start(src io.Reader, bits int, window []byte) {
	g := &x.g
	*g = gunzip{Decoder: inflate.Decoder{Src: g.Src, Dst: g.Dst}, step: stepBlocks}
	g.Bit = (8 - bits) & 7
	copy(g.Dst, window)
	g.W, g.Limit = inflate.Window, inflate.Window+extractOut
	g.Begin()
	x.src, x.from = src, inflate.Window
}

// run decodes until all that is wanted is written, or the stream ends.
func (x *extractor) run(ctx context.Context, w io.Writer) (int64, error) {
	g := &x.g
	var total int64
	for {
		ev, err := g.next()
		cut := errors.Is(err, ErrTruncated) // all of the span is decoded that could be
		if err != nil && !cut {
			return total, fmt.Errorf("%w: %w", errors.Unwrap(err), ErrInvalid)
		}
		n, werr := x.write(w)
		total += n
		switch {
		case werr != nil:
			return total, werr
		case x.left == 0:
			return total, nil
		case cut:
			return total, fmt.Errorf("%w: %w", ErrTruncated, ErrInvalid)
		case ev == inputEnded:
			return total, nil
		case ev == needInput:
			if err := x.fill(ctx); err != nil {
				return total, err
			}
		case ev == needOutput:
			copy(g.Dst, g.Dst[g.W-inflate.Window:g.W])
			g.Low = max(0, g.Low-(g.W-inflate.Window))
			g.W, x.from = inflate.Window, inflate.Window
		case ev == memberBegun:
			g.Low = g.W
		}
	}
}

// write writes the output that is new and wanted.
func (x *extractor) write(w io.Writer) (int64, error) {
	p := x.g.Dst[x.from:x.g.W]
	x.from = x.g.W
	k := min(x.skip, int64(len(p)))
	x.skip -= k
	p = p[k:]
	p = p[:min(x.left, int64(len(p)))]
	if len(p) == 0 {
		return 0, nil
	}
	n, err := w.Write(p)
	x.left -= int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

// fill puts more input behind what is left of it.
func (x *extractor) fill(ctx context.Context) error {
	g := &x.g
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g.End = copy(g.Src, g.Src[g.Pos:g.End])
	g.base += int64(g.Pos)
	g.Pos = 0
	n, err := io.ReadFull(x.src, g.Src[g.End:extractIn])
	g.End += n
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		g.Last = true
		clear(g.Src[g.End : g.End+inflate.SrcSlack])
		return nil
	}
	return fmt.Errorf("read layer: %w", err)
}
