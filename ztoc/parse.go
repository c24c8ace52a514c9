package ztoc

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"sync/atomic"
)

// ZTOC is a zTOC that is read where it lies: entries, spans and checkpoints
// when they are asked for. Its methods may be used from many goroutines, if the
// io.ReaderAt may.
type ZTOC struct {
	Version     string
	BuildTool   string
	LayerSize   int64 // of the compressed layer
	ArchiveSize int64 // how far the tar goes in the uncompressed stream
	Compression Compression
	SpanSize    int64 // that was asked for
	NumEntries  int
	NumSpans    int

	r         io.ReaderAt
	size      int64
	entries   vector
	digests   vector
	zinfo     vector
	implicit  int // 1 if checkpoint 0 is left out, as in the oldest zTOCs
	maxSpanID int32
	known     atomic.Pointer[spansRead]
}

// spansRead is what came of reading the spans, of what the zTOC itself is to
// blame for or praise.
type spansRead struct {
	info *spanInfo
	err  error
}

// maxNames bounds the versions and tools that Parse takes.
const maxNames = 4096

// Parse reads the head of a zTOC of the given size. It takes what any official
// builder has made since version 0.9 of the format, and believes none of it: an
// error is ErrInvalid when the bytes are at fault, and the reader's own
// otherwise. What it reads, and the memory it takes, does not depend on what
// the bytes claim.
func Parse(r io.ReaderAt, size int64) (*ZTOC, error) {
	if size < 0 || size > maxZTOC {
		return nil, fmt.Errorf("parse ztoc: %d bytes, the format has %d at most: %w", size, int64(maxZTOC), ErrInvalid)
	}
	z := &ZTOC{r: r, size: size}
	f := newFBReader(r, 0, size)
	root := f.root()
	version, tool := f.text(root, 0), f.text(root, 1)
	if version.n > maxNames || tool.n > maxNames {
		f.invalid("version or build tool of %d bytes", max(version.n, tool.n))
	}
	z.Version, z.BuildTool = f.string(version), f.string(tool)
	z.LayerSize, z.ArchiveSize = f.int64Field(root, 2), f.int64Field(root, 3)
	toc := f.tableField(root, 4, "table of contents")
	z.entries = f.vectorField(toc, 0, 4)
	info := f.tableField(root, 5, "compression info")
	if f.err == nil && (z.LayerSize < 0 || z.ArchiveSize < 0 || z.LayerSize > 1<<60) {
		f.invalid("layer of %d bytes, archive of %d", z.LayerSize, z.ArchiveSize)
	}
	z.readInfo(f, info)
	if f.err != nil {
		return nil, fmt.Errorf("parse ztoc: %w", f.err)
	}
	if z.entries.n > size/minEntry {
		return nil, fmt.Errorf("parse ztoc: %d entries in %d bytes: %w", z.entries.n, size, ErrInvalid)
	}
	z.NumEntries = int(z.entries.n)
	return z, nil
}

// readInfo reads what there is to say of the spans all together.
func (z *ZTOC) readInfo(f *fbReader, info table) {
	algorithm := byte(1)
	if at := info.field(0); at != 0 {
		if p := f.bytes(at, 1); p != nil {
			algorithm = p[0]
		}
	}
	z.maxSpanID = int32(f.uint32Field(info, 1))
	z.digests = f.vectorField(info, 2, 4)
	z.zinfo = f.vectorField(info, 3, 1)
	if f.err != nil {
		return
	}
	switch algorithm {
	case 1:
		z.readGzipInfo(f)
	case 2:
		z.Compression = Uncompressed
		z.readPlainInfo(f)
	default:
		f.invalid("compression algorithm %d", algorithm)
	}
	if z.digests.n > z.size/int64(digestBytes) {
		f.invalid("%d digests in %d bytes: no two share their text", z.digests.n, z.size)
	}
}

func (z *ZTOC) readGzipInfo(f *fbReader) {
	head := f.bytes(z.zinfo.off, min(z.zinfo.n, zinfoHeader))
	if f.err != nil || len(head) < zinfoHeader {
		f.invalid("checkpoints of %d bytes", z.zinfo.n)
		return
	}
	n := int64(int32(binary.LittleEndian.Uint32(head)))
	z.SpanSize = int64(binary.LittleEndian.Uint64(head[4:]))
	switch size := z.zinfo.n - zinfoHeader; {
	case z.SpanSize < 0:
		f.invalid("span size %d", z.SpanSize)
	case n > 0 && size == n*checkpointSize:
	case n > 0 && size == (n-1)*checkpointSize:
		z.implicit = 1
	default:
		f.invalid("%d bytes for %d checkpoints", size, n)
	}
	z.NumSpans = int(n)
}

func (z *ZTOC) readPlainInfo(f *fbReader) {
	g := newFBReader(z.r, z.zinfo.off, z.zinfo.n)
	t := g.root()
	size := g.int64Field(t, 2)
	z.SpanSize = g.int64Field(t, 1)
	switch {
	case g.err != nil:
		f.err = g.err
	case z.SpanSize <= 0 || size != z.LayerSize:
		f.invalid("span size %d and size %d of a layer of %d bytes", z.SpanSize, size, z.LayerSize)
	default:
		n := (size-1)/z.SpanSize + 1
		if size == 0 {
			n = 0
		}
		if n > z.digests.n {
			f.invalid("%d digests for %d spans", z.digests.n, n)
		}
		z.NumSpans = int(n)
	}
}

// spanInfo is where spans are in both streams.
type spanInfo struct {
	table SpanTable
	out   []int64 // start in the uncompressed stream; never falls
	bits  []uint8 // 0..7: how many high bits of the first byte belong to the span; 0 is all 8
}

// spans reads the spans once; again when the reader failed.
func (z *ZTOC) spans() (*spanInfo, error) {
	if k := z.known.Load(); k != nil {
		return k.info, k.err
	}
	s, err := z.readSpans()
	if err == nil || errors.Is(err, ErrInvalid) {
		z.known.Store(&spansRead{s, err})
	}
	return s, err
}

// readSpans reads all digests and the heads of all checkpoints.
func (z *ZTOC) readSpans() (*spanInfo, error) {
	f, refs := newFBReader(z.r, 0, z.size), newFBReader(z.r, 0, z.size)
	if int64(z.NumSpans) != z.digests.n {
		f.invalid("%d digests for %d spans", z.digests.n, z.NumSpans)
	}
	s := &spanInfo{table: SpanTable{size: z.LayerSize}}
	for i := int64(0); i < z.digests.n && f.err == nil; i++ {
		off := refs.ref(z.digests.off + 4*i)
		if f.err = refs.err; f.err != nil {
			break
		}
		v := f.vector(off, 1)
		if v.n != int64(len(digestPrefix)+2*sha256.Size) || !s.addDigest(f.bytes(v.off, v.n)) {
			f.invalid("digest of span %d", i)
		}
	}
	switch {
	case f.err != nil:
	case z.Compression == Gzip:
		z.readHeads(f, s)
	default:
		for i := range int64(z.NumSpans) {
			s.table.add(i*z.SpanSize, false)
			s.out = append(s.out, i*z.SpanSize)
		}
		s.bits = make([]uint8, z.NumSpans)
	}
	if f.err != nil {
		return nil, fmt.Errorf("read spans of ztoc: %w", f.err)
	}
	return s, nil
}

const digestPrefix = "sha256:"

// addDigest takes a digest in its text form. It reports whether it is one.
func (s *spanInfo) addDigest(text []byte) bool {
	hexes, ok := bytes.CutPrefix(text, []byte(digestPrefix))
	if !ok || bytes.ContainsAny(hexes, "ABCDEF") {
		return false
	}
	var sum [sha256.Size]byte
	if _, err := hex.Decode(sum[:], hexes); err != nil {
		return false
	}
	s.table.sum = append(s.table.sum, sum[:]...)
	return true
}

// readHeads reads the checkpoints without their windows, and sees that they
// follow one another in both streams.
func (z *ZTOC) readHeads(f *fbReader, s *spanInfo) {
	var head [17]byte
	var last int64 = -1
	for i := range z.NumSpans {
		in, out, bits := int64(10), int64(0), uint8(0)
		if i >= z.implicit {
			off := z.zinfo.off + zinfoHeader + int64(i-z.implicit)*checkpointSize
			if f.err != nil {
				return
			}
			if n, err := z.r.ReadAt(head[:], off); n < len(head) {
				f.err = fmt.Errorf("read checkpoint %d: %w", i, err)
				return
			}
			in = int64(binary.LittleEndian.Uint64(head[:]))
			out = int64(binary.LittleEndian.Uint64(head[8:]))
			bits = head[16]
		}
		start := in
		if bits > 0 {
			start--
		}
		if bits > 7 || start <= last || start >= z.LayerSize || out < 0 || i > 0 && out < s.out[i-1] {
			f.invalid("checkpoint %d is out of order", i)
			return
		}
		s.table.add(start, bits > 0 && i > 0)
		s.out, s.bits = append(s.out, out), append(s.bits, bits)
		last = start
	}
}

// Table gives where the spans are in the compressed layer. ErrInvalid where
// that contradicts itself, or the reader's error. What a zTOC from elsewhere says is not to be believed
// before the layer's own bytes have confirmed it.
func (z *ZTOC) Table() (SpanTable, error) {
	s, err := z.spans()
	if err != nil {
		return SpanTable{}, err
	}
	return s.table, nil
}

// SpanOf gives the number of the span that holds byte off of the uncompressed
// stream: the last span that begins at or before it, the first one for what is
// in front of that. Errors are as those of Table.
func (z *ZTOC) SpanOf(off int64) (int, error) {
	s, err := z.spans()
	if err != nil {
		return 0, err
	}
	return s.of(off), nil
}

func (s *spanInfo) of(off int64) int {
	lo, hi := 0, len(s.out) // out[lo-1] <= off < out[hi]
	for lo < hi {
		if m := (lo + hi) / 2; s.out[m] <= off {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return max(0, lo-1)
}

// Entries gives the files in the tar's order. An error, ErrInvalid or the
// reader's, is the last it gives.
func (z *ZTOC) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		er := newEntryReader(z)
		for i := range z.entries.n {
			e := er.read(i)
			if er.f.err != nil {
				yield(Entry{}, fmt.Errorf("read ztoc entry %d: %w", i, er.f.err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Lookup finds a file by its name in the tar, or by any that means the same
// path. Of several it gives the last, which is the one that an unpacked layer
// shows. ErrNotFound, ErrInvalid, or the reader's error.
func (z *ZTOC) Lookup(name string) (Entry, error) {
	e, _, err := z.lookup(name, z.entries.n)
	return e, err
}

// lookup is Lookup among the first n entries. It gives the entry's number, too.
func (z *ZTOC) lookup(name string, n int64) (Entry, int64, error) {
	er := newEntryReader(z)
	clean := cleanPath(name)
	base := []byte(path.Base("/" + clean))
	found := int64(-1)
	for i := range n {
		got := er.name(i)
		if er.f.err != nil {
			return Entry{}, 0, fmt.Errorf("read ztoc entry %d: %w", i, er.f.err)
		}
		if hasBase(got, base) && cleanPath(string(got)) == clean {
			found = i
		}
	}
	if found < 0 {
		return Entry{}, 0, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	er.again()
	e := er.read(found)
	if er.f.err != nil {
		return Entry{}, 0, fmt.Errorf("read ztoc entry %d: %w", found, er.f.err)
	}
	return e, found, nil
}

// hasBase says that a name may mean a path that ends in base. It is there to
// say no quickly; a name that has to be cleaned first is a yes.
func hasBase(name, base []byte) bool {
	if n := len(name); n == 0 || name[n-1] == '/' || name[n-1] == '.' {
		return true
	}
	return len(name) >= len(base) && string(name[len(name)-len(base):]) == string(base)
}
