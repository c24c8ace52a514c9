package ztoc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

func input(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata/inputs", name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRefusal is what an error says: class, place, cause.
func TestRefusal(t *testing.T) {
	good := input(t, "zlib-6.tar.gz")
	edit := func(off int, b ...byte) []byte {
		p := bytes.Clone(good)
		copy(p[(off+len(p))%len(p):], b)
		return p
	}
	longName := append([]byte{0x1f, 0x8b, 8, flagName, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("n"), 512)...)
	twice := append(bytes.Clone(input(t, "no-eoa.tar.gz")), append(append(longName, 0), good[10:]...)...)
	for _, tc := range []struct {
		name  string
		layer []byte
		opt   Options
		class Class
		off   int64
		cause error
	}{
		{"nothing", nil, Options{}, ClassDeflate, 0, ErrTruncated},
		{"not gzip", []byte("hello"), Options{}, ClassDeflate, 0, ErrNotGzip},
		{"method", edit(2, 7), Options{}, ClassDeflate, 10, nil},
		{"reserved flag", edit(3, 0x20), Options{}, ClassDeflate, 10, nil},
		{"cut in the header", good[:7], Options{}, ClassDeflate, 7, ErrTruncated},
		{"cut in a block", good[:len(good)/2], Options{}, ClassDeflate, int64(len(good) / 2), ErrTruncated},
		{"cut in the trailer", good[:len(good)-3], Options{}, ClassDeflate, int64(len(good) - 3), ErrTruncated},
		{"cut in the second member's header", append(bytes.Clone(good), good[:5]...), Options{}, ClassDeflate, int64(len(good) + 5), ErrTruncated},
		{"crc", edit(-8, 1, 2, 3, 4), Options{}, ClassDeflate, int64(len(good) - 8), ErrChecksum},
		{"size", edit(-4, 1, 2, 3, 4), Options{}, ClassDeflate, int64(len(good) - 4), ErrChecksum},
		{"junk behind", append(bytes.Clone(good), "junk"...), Options{}, ClassDeflate, int64(len(good)), ErrTrailing},
		{"zlib", input(t, "zlib-wrapped.gz"), Options{}, ClassGzipHeader, 0, ErrNotGzip},
		{"long name", append(append(bytes.Clone(longName), 0), good[10:]...), Options{}, ClassGzipHeader, 0, ErrUnsupported},
		{"long name in the second member", twice, Options{}, ClassGzipHeader, int64(len(input(t, "no-eoa.tar.gz"))), ErrUnsupported},
		{"a byte behind the end", append(bytes.Clone(good), 'x'), Options{}, ClassDeflate, int64(len(good)), ErrTrailing},
		{"a byte of a member behind the end", append(bytes.Clone(good), 0x1f), Options{}, ClassDeflate, int64(len(good)) + 1, ErrTruncated},
		{"not a tar", input(t, "not-a-tar.gz"), Options{}, ClassTarHeader, 512, ErrNotTar},
		{"cut tar", input(t, "plain-cut.tar"), Options{Compression: Uncompressed}, ClassTarHeader, int64(len(input(t, "plain-cut.tar"))), ErrTruncated},
		{"type 7", input(t, "type-7.tar.gz"), Options{}, ClassTarType, 512, ErrUnsupported},
		{"files", good, Options{MaxEntries: 2}, ClassLimit, -1, ErrMaxEntries},
		{"bytes of files", good, Options{MaxTOCBytes: 20}, ClassLimit, -1, ErrTooLarge},
		{"bytes", good, Options{MaxUncompressed: 1000}, ClassLimit, 1000, ErrMaxUncompressed},
		{"checkpoints", good, Options{MaxSize: 1000}, ClassLimit, -1, ErrTooLarge},
		{"size of it all", good, Options{MaxSize: 33400}, ClassLimit, -1, ErrTooLarge},
		{"zstd", good, Options{Compression: 3}, ClassAlgorithm, 0, ErrUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := build(bytes.NewReader(tc.layer), DefaultSpanSize, tc.opt)
			var e *Error
			if !errors.As(err, &e) || e.Class != tc.class || tc.off >= 0 && e.Offset != tc.off || tc.cause != nil && !errors.Is(err, tc.cause) {
				t.Fatalf("got %v, want %s at %d: %v", err, tc.class, tc.off, tc.cause)
			}
			if !strings.HasPrefix(err.Error(), string(tc.class)+" at offset ") {
				t.Errorf("says %q", err)
			}
		})
	}
	if _, err := NewBuilder(-1, Options{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("negative span size: %v", err)
	}
}

// TestCutAnywhere cuts layers in many places: what is reported is where the data
// ends, in blocks of all kinds.
func TestCutAnywhere(t *testing.T) {
	for _, name := range []string{"stored.tar.gz", "zlib-6.tar.gz", "fixed.tar.gz", "huffman-only.tar.gz", "gz-fields.tar.gz"} {
		layer := input(t, name)
		for n := 0; n < len(layer); n += 1 + len(layer)/60 {
			_, err := build(bytes.NewReader(layer[:n]), DefaultSpanSize, Options{})
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassDeflate || e.Offset != int64(n) || !errors.Is(err, ErrTruncated) {
				t.Fatalf("%s, %d bytes: %v", name, n, err)
			}
		}
	}
}

// TestDigests compares the digests with those of the bytes.
func TestDigests(t *testing.T) {
	for name, c := range map[string]Compression{"mgzip.tar.gz": Gzip, "plain-tail.tar": Uncompressed} {
		layer := input(t, name)
		plain := (&built{layer: layer}).plain(t, c)
		for _, o := range []Options{{}, {DiffID: true}, {SkipLayerDigest: true}, {DiffID: true, SkipLayerDigest: true}} {
			o.Compression = c
			r, err := build(bytes.NewReader(layer), 4096, o)
			if err != nil {
				t.Fatal(err)
			}
			wantLayer, wantDiff := digest.FromBytes(layer), digest.FromBytes(plain)
			if o.SkipLayerDigest {
				wantLayer = ""
			}
			if !o.DiffID {
				wantDiff = ""
			}
			if r.LayerDigest != wantLayer || r.DiffID != wantDiff || r.LayerSize != int64(len(layer)) || r.UncompressedSize != int64(len(plain)) {
				t.Errorf("%s, %+v: got %s of %d bytes, %s of %d", name, o, r.LayerDigest, r.LayerSize, r.DiffID, r.UncompressedSize)
			}
			h := digest.SHA256.Digester()
			for range 2 {
				h.Hash().Reset()
				if _, err := r.WriteTo(h.Hash()); err != nil || h.Digest() != r.Digest {
					t.Errorf("%s: ztoc has digest %s, want %s: %v", name, h.Digest(), r.Digest, err)
				}
			}
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestKeepsNothing writes from a buffer that is overwritten at once, in pieces of
// changing size.
func TestKeepsNothing(t *testing.T) {
	layer := input(t, "text-13m.tar.gz")
	want, err := build(bytes.NewReader(layer), 1<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBuilder(1<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	buf := make([]byte, 300_000)
	for n := 1; len(layer) > 0; n = n*5%299_993 + 1 {
		k := copy(buf[:n], layer)
		if got, err := b.Write(buf[:k]); err != nil || got != k {
			t.Fatal(got, err)
		}
		clear(buf)
		layer = layer[k:]
	}
	got, err := b.Finish()
	if err != nil || got.Digest != want.Digest {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestAbort gives up at every stage, and leaves nothing running and no file.
func TestAbort(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	layer := input(t, "zlib-9-mem1.tar.gz")
	for _, n := range []int{0, 5, len(layer) / 2, len(layer)} {
		b, err := NewBuilder(0, Options{SpillDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(layer[:n]); err != nil {
			t.Fatal(err)
		}
		b.Abort()
		b.Abort()
		if _, err := b.Finish(); !errors.Is(err, ErrAborted) {
			t.Errorf("Finish after Abort: %v", err)
		}
		takesNothing(t, b)
	}
	b, err := NewBuilder(0, Options{SpillDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(b, bytes.NewReader(layer))
	r, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	b.Abort()
	if n, err := r.WriteTo(io.Discard); err != nil || n != r.Size {
		t.Errorf("after Abort of a finished build: wrote %d of %d bytes, %v", n, r.Size, err)
	}
	if _, err := b.Finish(); err == nil {
		t.Error("finished twice")
	}
	takesNothing(t, b)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n, err := r.WriteTo(io.Discard); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: wrote %d bytes, %v", n, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// takesNothing sees that a Builder that is over says so, however much comes.
func takesNothing(t *testing.T, b *Builder) {
	t.Helper()
	if n, err := b.Write(make([]byte, 2*inputSize)); n != 0 || !errors.Is(err, ErrAborted) {
		t.Errorf("Write when it is over: %d, %v", n, err)
	}
	if n, err := b.ReadFrom(bytes.NewReader(make([]byte, 2*inputSize))); n != 0 || !errors.Is(err, ErrAborted) {
		t.Errorf("ReadFrom when it is over: %d, %v", n, err)
	}
}

// blockStream is a gzip member of empty stored blocks and one that isn't: each
// of the empty ones in front takes a checkpoint.
func blockStream(n int) []byte {
	p := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	for range n {
		p = append(p, 0, 0, 0, 0xff, 0xff)
	}
	p = append(p, 1, 0, 0, 0xff, 0xff)
	return binary.LittleEndian.AppendUint64(p, 0) // of nothing, both are 0
}

// TestSpill takes more checkpoints than are kept in memory, with a place for
// them and without.
func TestSpill(t *testing.T) {
	layer := blockStream(checkpointChunk*checkpointMemory + 100)
	dir := t.TempDir()
	r, err := build(bytes.NewReader(layer), DefaultSpanSize, Options{SpillDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil || digest.FromBytes(z.Bytes()) != r.Digest {
		t.Errorf("ztoc in a spill file: %v", err)
	}
	parsed, err := Parse(bytes.NewReader(z.Bytes()), r.Size)
	if err != nil || parsed.NumSpans != checkpointChunk*checkpointMemory+101 {
		t.Errorf("%+v, %v", parsed, err)
	}
	if got := verdictOf(r.CheckClient()); got != "reject:nonmonotonic" {
		t.Error(got)
	}
	r.Close()

	_, err = build(bytes.NewReader(layer), DefaultSpanSize, Options{SpillDir: filepath.Join(dir, "none")})
	var e *Error
	if err == nil || errors.As(err, &e) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no place to spill to: %v", err)
	}
}

// TestOneProcessor builds where the goroutines take turns.
func TestOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, v := range readVectors(t) {
		if strings.HasPrefix(v.file, "text") || strings.HasPrefix(v.file, "zoo") {
			checkVector(t, v, bytes.NewReader(input(t, v.file)))
		}
	}
}

// TestMembers are members in rows that fill the accounts' lists.
func TestMembers(t *testing.T) {
	var layer []byte
	for range maxMarks * 3 / 4 {
		layer = append(layer, blockStream(0)...)
	}
	layer = append(layer, input(t, "empty.tar.gz")...)
	r, err := build(bytes.NewReader(layer), DefaultSpanSize, Options{MaxSize: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Spans != maxMarks*3/4+1 || tableOf(t, r).HeadEnd() != 10 {
		t.Errorf("%d spans from %d on", r.Spans, tableOf(t, r).HeadEnd())
	}
}

// TestUnreadable are files that a client takes but cannot open.
func TestUnreadable(t *testing.T) {
	for name, want := range map[string]int{"pax-sparse-0.1.tar.gz": 1, "pax-sparse-1.0.tar.gz": 1, "all-types.tar.gz": 0, "pax-times.tar.gz": 1, "pax-ids.tar.gz": 4} {
		r, err := build(bytes.NewReader(input(t, name)), DefaultSpanSize, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r.unreadable != want {
			t.Errorf("%s: %d of %d, want %d", name, r.unreadable, r.Entries, want)
		}
		r.Close()
	}
}
