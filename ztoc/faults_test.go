package ztoc

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// builtOf builds the zTOC of a layer.
func builtOf(t *testing.T, layer []byte, spanSize int64, c Compression) *built {
	t.Helper()
	r, err := build(bytes.NewReader(layer), spanSize, Options{Compression: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil {
		t.Fatal(err)
	}
	return &built{layer, z.Bytes(), r}
}

// ustar is a tar entry, with its data.
func ustar(name string, flag byte, size int64, body string) []byte {
	b := make([]byte, 512, 1024+len(body))
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        %c", size, 0, flag))
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	b = append(b, body...)
	return append(b, make([]byte, -len(body)&511)...)
}

// sparseLayer has a file of 95 NULs and "hello", of which the tar has the latter.
func sparseLayer() []byte {
	var pax string
	for _, r := range [][2]string{{"major", "1"}, {"minor", "0"}, {"name", "s"}, {"realsize", "100"}} {
		rec := " GNU.sparse." + r[0] + "=" + r[1] + "\n"
		pax += fmt.Sprint(len(rec)+2) + rec
	}
	content := "1\n95\n5\n" + strings.Repeat("\x00", 505) + "hello"
	layer := append(ustar("x", 'x', int64(len(pax)), pax), ustar("GNUSparseFile.0/s", '0', int64(len(content)), content)...)
	return append(layer, make([]byte, 1024)...)
}

// TestSparseIsNotRead: the data of a sparse file are not its content, which the
// zTOC shows.
func TestSparseIsNotRead(t *testing.T) {
	layers := map[string][]byte{"own": gzipMember(t, sparseLayer())}
	names, err := filepath.Glob("testdata/inputs/pax-sparse-*.tar.gz")
	if err != nil || len(names) < 2 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		layers[filepath.Base(name)] = input(t, filepath.Base(name))
	}
	for name, layer := range layers {
		b := builtOf(t, layer, 4096, Gzip)
		z := parsed(t, b.ztoc)
		sparse := 0
		for e, err := range z.Entries() {
			if err != nil {
				t.Fatal(err)
			}
			if !e.sparse() {
				continue
			}
			sparse++
			var got bytes.Buffer
			if _, err := z.Extract(t.Context(), e.Name, bytes.NewReader(layer), &got); !errors.Is(err, ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "sparse") || got.Len() > 0 {
				t.Errorf("%s: Extract of %s: %d bytes, %v", name, e.Name, got.Len(), err)
			}
			if _, err := z.File(e.Name); !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: File of %s: %v", name, e.Name, err)
			}
		}
		if sparse == 0 {
			t.Errorf("%s: no sparse file", name)
		}
		if at, now := b.result.CheckClient(), z.CheckClient(); at == nil || fmt.Sprint(at) != fmt.Sprint(now) {
			t.Errorf("%s: %v at build, %v when parsed", name, at, now)
		}
		if name == "own" && verdictOf(z.CheckClient()) != "reject:unreadable" {
			t.Errorf("%v", z.CheckClient())
		}
	}
}

// TestHostileExtents: an entry that is where no stream is, is the zTOC's fault, and
// nothing for clients.
func TestHostileExtents(t *testing.T) {
	const size = 70007
	tarred := append(oneFile(t, nil), ustar("b", '0', size, strings.Repeat("x", size))...)
	for _, c := range []Compression{Gzip, Uncompressed} {
		layer := append(tarred, make([]byte, 1024)...)
		if c == Gzip {
			layer = gzipMember(t, layer)
		}
		good := builtOf(t, layer, 4096, c).ztoc
		at := bytes.Index(good, binary.LittleEndian.AppendUint64(nil, size))
		if at < 0 || !bytes.Equal(good[at+8:][:8], binary.LittleEndian.AppendUint64(nil, 1024)) {
			t.Fatal("size and offset are elsewhere")
		}
		for _, v := range []uint64{1 << 63, 1<<63 - 1, 1<<64 - 1, 1 << 62, 1 << 40, 1024 + size + 1024} {
			for i, field := range []string{"size", "offset"} {
				p := bytes.Clone(good)
				binary.LittleEndian.PutUint64(p[at+8*i:], v)
				z := parsed(t, p)
				n, err := z.Extract(t.Context(), "b", bytes.NewReader(layer), io.Discard)
				if n > 0 || !errors.Is(err, ErrInvalid) || errors.Is(err, ErrRange) {
					t.Errorf("%s, %s %#x: %d bytes, %v", c, field, v, n, err)
				}
				if _, err := z.File("b"); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s, %s %#x: File: %v", c, field, v, err)
				}
				var reject *RejectError
				if err := z.CheckClient(); !errors.As(err, &reject) && !errors.Is(err, ErrInvalid) {
					t.Errorf("%s, %s %#x: fit for clients: %v", c, field, v, err)
				}
			}
		}
		if c == Gzip { // the last 8 bytes of the zinfo's head are the span size
			at := bytes.Index(good, binary.LittleEndian.AppendUint64(nil, 4096))
			p := bytes.Clone(good)
			binary.LittleEndian.PutUint64(p[at:], 1<<64-5)
			if _, err := Parse(bytes.NewReader(p), int64(len(p))); !errors.Is(err, ErrInvalid) {
				t.Errorf("span size -5: %v", err)
			}
		}
	}
}

// TestRangeBehindTheEnd is the caller's fault, not the zTOC's.
func TestRangeBehindTheEnd(t *testing.T) {
	plain := append(oneFile(t, make([]byte, 70007)), make([]byte, 1024)...)
	size := int64(len(plain))
	for _, c := range []Compression{Gzip, Uncompressed} {
		layer := plain
		if c == Gzip {
			layer = gzipMember(t, plain)
		}
		z := parsed(t, builtOf(t, layer, 4096, c).ztoc)
		for _, tc := range []struct{ off, n, got int64 }{{size + 1000, 10, 0}, {size - 5, 10, 5}, {size, 1, 0}, {0, size + 1, size}, {1 << 61, 1 << 61, 0}} {
			r := &countedReader{Reader: bytes.NewReader(layer)}
			n, err := z.ReadRange(t.Context(), tc.off, tc.n, r, io.Discard)
			if !errors.Is(err, ErrRange) || errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %d bytes at %d: %v", c, tc.n, tc.off, err)
			}
			if c == Uncompressed && (n > 0 || r.n > 0) || c == Gzip && n != tc.got {
				t.Errorf("%s: %d bytes at %d: wrote %d, read %d", c, tc.n, tc.off, n, r.n)
			}
		}
		if n, err := z.ReadRange(t.Context(), 0, size, bytes.NewReader(layer), io.Discard); n != size || err != nil {
			t.Errorf("%s: all: %d, %v", c, n, err)
		}
	}
}

// TestDigestsCannotSpill ends a build when it happens, not when the layer ends.
func TestDigestsCannotSpill(t *testing.T) {
	for _, serial := range []bool{false, true} {
		b, err := NewBuilder(512, Options{Compression: Uncompressed, SpillDir: filepath.Join(t.TempDir(), "gone"), SerialHash: serial})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		_, err = b.Write(ustar("a", '0', 1<<33-1, "")[:512])
		// Some 20 MiB of spans of 512 bytes have digests that stay in memory, twice
		// as many where two are hashed at a time.
		block, n := make([]byte, 1<<20), 0
		for ; err == nil && n < 80; n++ {
			_, err = b.Write(block)
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("serial %v: after %d MiB: %v", serial, n, err)
		}
		if _, err := b.Finish(); !errors.Is(err, os.ErrNotExist) || errors.As(err, new(*Error)) {
			t.Errorf("serial %v: Finish: %v", serial, err)
		}
	}
}

// TestShortWrites: a writer that writes less than it is given, and says nothing.
func TestShortWrites(t *testing.T) {
	half := writerFunc(func(p []byte) (int, error) { return len(p) / 2, nil })
	for name, c := range map[string]Compression{"all-types.tar": Uncompressed, "text-13m.tar.gz": Gzip} {
		b := made(t, name, 4<<20, c)
		z := parsed(t, b.ztoc)
		_, err := z.ReadRange(t.Context(), 0, 4096, bytes.NewReader(b.layer), half)
		_, spanErr := z.ReadSpan(t.Context(), 0, bytes.NewReader(b.layer), half)
		_, allErr := builtOf(t, b.layer, 4096, c).result.WriteTo(half)
		for _, err := range []error{err, spanErr, allErr} {
			if !errors.Is(err, io.ErrShortWrite) || errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestLinkMessages name who links to what, and are fit for a terminal.
func TestLinkMessages(t *testing.T) {
	z := parsed(t, tarball(t,
		tar.Header{Name: "loop", Typeflag: tar.TypeLink, Linkname: "loop"},
		tar.Header{Name: "hl", Typeflag: tar.TypeLink, Linkname: "nope\x1b"},
		tar.Header{Name: "hl2", Typeflag: tar.TypeLink, Linkname: "hl"},
		tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "\x1b[2J\n"},
	).ztoc)
	for name, want := range map[string]string{
		"loop": `"loop" links to "loop", which is not in front of it: no such file in layer`,
		"hl":   `"hl" links to "nope\x1b", which is not in front of it: no such file in layer`,
		"hl2":  `"hl" links to "nope\x1b", which is not in front of it: no such file in layer`,
		"s":    `s is a symlink to "\x1b[2J\n": not supported`,
		"nope": `nope: no such file in layer`,
	} {
		if _, err := z.File(name); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
