package ztoc

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse reads all there is of a zTOC that may be anything.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"all-types.tar.4096.ztoc", "plain-empty.tar.4096.ztoc"} {
		p, err := os.ReadFile(filepath.Join("testdata/ztocs", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, []byte("layer"))
	}
	b := smallBuild(f)
	f.Add(b.ztoc, b.layer)
	f.Fuzz(func(t *testing.T, p, layer []byte) {
		for _, size := range []int64{int64(len(p)), 2*int64(len(p)) + 1000, maxZTOC} { // claimed
			if took := allocated(func() { readAll(p, size) }); took > 64*uint64(len(p))+8<<20 {
				t.Fatalf("%d bytes were allocated for %d that are said to be %d", took, len(p), size)
			}
		}
		z, err := Parse(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("not ErrInvalid: %v", err)
			}
			return
		}
		var names []string
		for e, err := range z.Entries() {
			if err != nil {
				if !errors.Is(err, ErrInvalid) {
					t.Fatalf("not ErrInvalid: %v", err)
				}
				break
			}
			names = append(names, e.Name)
		}
		var reject *RejectError
		if err := z.CheckClient(); err != nil && !errors.As(err, &reject) && !errors.Is(err, ErrInvalid) {
			t.Fatalf("verdict: %v", err)
		}
		for _, name := range names[:min(len(names), 20)] {
			z.Extract(t.Context(), name, bytes.NewReader(layer), io.Discard)
		}
		for i := range min(z.NumSpans, 20) {
			z.ReadSpan(t.Context(), i, bytes.NewReader(layer), &limited{left: 1 << 20})
		}
	})
}

// limited takes so many bytes.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// smallBuild is a zTOC of a few hundred bytes of layer, with a window of zeros.
func smallBuild(t testing.TB) *built {
	t.Helper()
	layer, err := os.ReadFile("testdata/inputs/empty.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := build(bytes.NewReader(layer), 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil {
		t.Fatal(err)
	}
	return &built{layer, z.Bytes(), r}
}

// FuzzBuild builds from bytes that may be anything, and reads back what it made.
func FuzzBuild(f *testing.F) {
	names, err := filepath.Glob("testdata/inputs/*.gz")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		if p, err := os.ReadFile(name); err == nil && len(p) < 4000 {
			f.Add(p, int64(4096))
		}
	}
	f.Fuzz(func(t *testing.T, layer []byte, spanSize int64) {
		if spanSize < 0 || len(layer) > 1<<16 {
			return
		}
		r, err := build(bytes.NewReader(layer), spanSize, Options{MaxUncompressed: 8 << 20, MaxSize: 16 << 20})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("not an Error: %v", err)
			}
			return
		}
		defer r.Close()
		var z bytes.Buffer
		if _, err := r.WriteTo(&z); err != nil {
			t.Fatal(err)
		}
		zr, err := gzip.NewReader(bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(zr)
		if err != nil && r.ArchiveSize > int64(len(plain)) {
			t.Fatalf("built what compress/gzip does not read: %v", err)
		}
		parsed, err := Parse(bytes.NewReader(z.Bytes()), r.Size)
		if err != nil {
			t.Fatal(err)
		}
		if got, again := mountVerdict(r.CheckClient()), mountVerdict(parsed.CheckClient()); got != again {
			t.Fatalf("verdict %s at build, %s when parsed", got, again)
		}
		if err == nil && int64(len(plain)) == r.UncompressedSize {
			checkEntries(t, parsed, plain[:r.ArchiveSize])
			if parsed.NumSpans > 50 {
				return // reading all of them takes too long for one go
			}
			checkReads(t, &built{layer, z.Bytes(), r}, parsed, plain)
		}
	})
}
