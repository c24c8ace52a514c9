package ztoc

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestExtractLinks follows hard links to what they link to: the file of that
// path in front of them, however it is spelled.
func TestExtractLinks(t *testing.T) {
	reg := func(name string, size int64) tar.Header { return tar.Header{Name: name, Size: size} }
	link := func(name, to string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to} }
	for _, tc := range []struct {
		what string
		tar  []tar.Header
		name string
		size int64
		err  error
	}{
		{"the target is replaced later", []tar.Header{reg("a", 1), link("b", "a"), reg("a", 2)}, "b", 1, nil},
		{"and the name itself is not", []tar.Header{reg("a", 1), link("b", "a"), reg("a", 2)}, "a", 2, nil},
		{"to itself, which was a file", []tar.Header{reg("d", 1), link("d", "d")}, "d", 1, nil},
		{"to itself", []tar.Header{link("d", "d")}, "d", 0, ErrNotFound},
		{"to a later file", []tar.Header{link("b", "a"), reg("a", 2)}, "b", 0, ErrNotFound},
		{"through a link that is replaced", []tar.Header{reg("a", 1), link("b", "a"), link("c", "b"), reg("b", 2)}, "c", 1, nil},
		{"other spelling of the target", []tar.Header{reg("a", 1), reg("./a", 2), link("b", "a")}, "b", 2, nil},
		{"other spelling later", []tar.Header{reg("c", 1), reg("./c", 2)}, "c", 2, nil},
		{"this spelling later", []tar.Header{reg("./c", 1), reg("c", 2)}, "./c", 2, nil},
	} {
		t.Run(tc.what, func(t *testing.T) {
			b := tarball(t, tc.tar...)
			z := parsed(t, b.ztoc)
			n, err := z.Extract(t.Context(), tc.name, bytes.NewReader(b.layer), io.Discard)
			if n != tc.size || !errors.Is(err, tc.err) {
				t.Errorf("got %d bytes, %v; want %d, %v", n, err, tc.size, tc.err)
			}
		})
	}
}

func parsed(t testing.TB, ztoc []byte) *ZTOC {
	t.Helper()
	z, err := Parse(bytes.NewReader(ztoc), int64(len(ztoc)))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// made is a layer of testdata and its zTOC.
func made(t testing.TB, name string, spanSize int64, c Compression) *built {
	t.Helper()
	b := buildVector(t, row{file: name, spanSize: spanSize, compression: c.String()})
	if b == nil {
		t.Fatalf("%s was refused", name)
	}
	return b
}

// TestExtractEndsWithContext reads with a context that ends before, and one that
// ends under way.
func TestExtractEndsWithContext(t *testing.T) {
	for name, c := range map[string]Compression{"all-types.tar": Uncompressed, "text-13m.tar.gz": Gzip} {
		b := made(t, name, 4<<20, c)
		z := parsed(t, b.ztoc)
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		n, err := z.ReadRange(ctx, 0, z.ArchiveSize, bytes.NewReader(b.layer), writerFunc(func(p []byte) (int, error) {
			cancel(stop)
			return len(p), nil
		}))
		if n == 0 || n == z.ArchiveSize || !errors.Is(err, stop) {
			t.Errorf("%s: read %d of %d bytes, %v", name, n, z.ArchiveSize, err)
		}
		if n, err := z.ReadRange(ctx, 0, 100, bytes.NewReader(b.layer), io.Discard); n != 0 || !errors.Is(err, stop) {
			t.Errorf("%s: read %d bytes, %v", name, n, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// failing fails so often, then reads.
type failing struct {
	io.ReaderAt
	times int
}

var errDisk = errors.New("input/output error")

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.times--; f.times >= 0 {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestSpansAreReadAgain reads a zTOC whose medium fails once.
func TestSpansAreReadAgain(t *testing.T) {
	b := made(t, "all-types.tar.gz", 4096, Gzip)
	r := &failing{ReaderAt: bytes.NewReader(b.ztoc)}
	z, err := Parse(r, int64(len(b.ztoc)))
	if err != nil {
		t.Fatal(err)
	}
	r.times = 1
	if _, err := z.Table(); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want %v", err, errDisk)
	}
	if table, err := z.Table(); err != nil || table.Len() != b.result.Spans {
		t.Errorf("read again: %v", err)
	}
	r.times = 1
	if _, err := z.Table(); err != nil {
		t.Errorf("read a third time: %v", err)
	}
}

// TestForgedSpanEnd reads spans that a zTOC says end early. What the decoder makes
// of the zeros behind is not the layer's.
func TestForgedSpanEnd(t *testing.T) {
	b := made(t, "text-13m.tar.gz", 1<<20, Gzip)
	plain := b.plain(t, Gzip)
	z := parsed(t, b.ztoc)
	s, err := z.spans()
	if err != nil {
		t.Fatal(err)
	}
	last := z.NumSpans - 1
	for _, i := range []int{0, last} {
		sp := s.table.Span(i)
		from, end := s.out[i], int64(len(plain))
		if i < last {
			end = s.out[i+1]
		}
		for cut := int64(1); cut < 100; cut++ {
			short := b.layer[:sp.End-cut]
			forged := z.withSpan(i, sp.End-cut, digest.FromBytes(short[sp.Off:]))
			var got bytes.Buffer
			n, err := forged.ReadSpan(t.Context(), i, bytes.NewReader(short), &got)
			if !bytes.HasPrefix(plain[from:end], got.Bytes()) || n < end-from && !errors.Is(err, ErrInvalid) {
				t.Fatalf("span %d, %d bytes less: read %d of %d bytes, %v", i, cut, n, end-from, err)
			}
			if i == last && err == nil {
				t.Errorf("%d bytes of the last span are gone, and nothing is said", cut)
			}
		}
	}
}

// withSpan is a zTOC that says that span i ends elsewhere.
func (z *ZTOC) withSpan(i int, end int64, d digest.Digest) *ZTOC {
	s, err := z.readSpans()
	if err != nil {
		panic(err)
	}
	sum, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(err)
	}
	copy(s.table.sum[i*sha256.Size:], sum)
	if i+1 < s.table.Len() {
		s.table.start[i+1] = uint64(end) << 1
	} else {
		s.table.size = end
	}
	forged := &ZTOC{NumSpans: z.NumSpans, Compression: z.Compression, implicit: z.implicit, zinfo: z.zinfo, r: z.r, size: z.size}
	forged.known.Store(&spansRead{info: s})
	return forged
}

// TestLongSpanTable is refused while it is built: a span of a byte for each byte
// of an uncompressed layer.
func TestLongSpanTable(t *testing.T) {
	layer := strings.Repeat("x", 4<<20)
	b, err := NewBuilder(1, Options{Compression: Uncompressed, MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	n, err := b.Write([]byte(layer))
	var e *Error
	if !errors.As(err, &e) || e.Class != ClassLimit || n > 1<<20 {
		t.Errorf("took %d bytes, %v", n, err)
	}
	if want := fmt.Sprintf("%s at offset", ClassLimit); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v", err)
	}
}
