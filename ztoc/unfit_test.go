package ztoc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tarOf is a tar of one file.
func tarOf(t *testing.T, h tar.Header) []byte {
	t.Helper()
	var p bytes.Buffer
	w := tar.NewWriter(&p)
	h.Name, h.Mode, h.Size = "a", 0o644, 3
	err := w.WriteHeader(&h)
	if err == nil {
		_, err = w.Write([]byte("abc"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return p.Bytes()
}

// TestUnfit: what clients take and cannot open is not for them either.
func TestUnfit(t *testing.T) {
	file := func(name string) []byte {
		p, err := os.ReadFile(filepath.Join("testdata/inputs", name))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	beyond := int64(1) << 33 // no constant: the tests are to compile where an int is smaller
	for _, tc := range []struct {
		name  string
		c     Compression
		layer []byte
		want  string
	}{
		{"common", Uncompressed, tarOf(t, tar.Header{Uid: 1000}), "ok"},
		{"owner beyond 32 bits", Uncompressed, tarOf(t, tar.Header{Uid: int(beyond), Format: tar.FormatPAX}), "reject:unreadable"},
		{"year 12345", Uncompressed, tarOf(t, tar.Header{ModTime: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), Format: tar.FormatPAX}), "reject:unreadable"},
		{"sparse file, last", Gzip, file("pax-sparse-0.1.tar.gz"), "reject:past-end"},
		{"sparse file in between", Gzip, file("pax-sparse-1.0.tar.gz"), "reject:toc"},
		{"two checkpoints at one offset", Gzip, file("full-flush-start.tar.gz"), "reject:nonmonotonic"},
	} {
		r, err := build(bytes.NewReader(tc.layer), 4096, Options{Compression: tc.c})
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := verdictOf(r.CheckClient()); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefusalOffsets: a fault of a member is met where its trailer says so.
func TestRefusalOffsets(t *testing.T) {
	var p bytes.Buffer
	var ends []int
	for _, part := range [][]byte{tarOf(t, tar.Header{})[:512], tarOf(t, tar.Header{})[512:]} {
		w := gzip.NewWriter(&p)
		_, err := w.Write(part)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, p.Len())
	}
	for _, tc := range []struct {
		change int // the byte
		off    int64
		want   string
	}{
		{ends[0] - 8, int64(ends[0] - 8), "crc-32 of the member at 0: "},
		{ends[1] - 8, int64(ends[1] - 8), "crc-32 of the member at "},
		{ends[1] - 1, int64(ends[1] - 4), "size of the member at "},
	} {
		layer := bytes.Clone(p.Bytes())
		layer[tc.change] ^= 1
		_, err := build(bytes.NewReader(layer), 4096, Options{})
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassDeflate || e.Offset != tc.off || !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("byte %d: %v, want deflate at offset %d: %s", tc.change, err, tc.off, tc.want)
		}
	}
	for _, size := range []int64{0, -1} {
		_, err := NewBuilder(size, Options{Compression: Uncompressed})
		if e, ok := err.(*Error); !ok || e.Class != ClassSpanSize { //nolint:errorlint // documented as an *Error
			t.Errorf("span size %d: %v", size, err)
		}
	}
}

func TestDetect(t *testing.T) {
	named := tarOf(t, tar.Header{})
	for _, tc := range []struct {
		name, head string
		want       Compression
		class      Class
	}{
		{"gzip", "\x1f\x8b\x08\x00", Gzip, ""},
		{"tar", string(named), Uncompressed, ""},
		{"nothing", "", Uncompressed, ""},
		{"text", "hello", Uncompressed, ""},
		{"zstd", "\x28\xb5\x2f\xfd\x00", 0, ClassAlgorithm},
		{"xz", "\xfd7zXZ\x00\x00", 0, ClassAlgorithm},
		{"bzip2", "BZh91AY&SY", 0, ClassAlgorithm},
		{"zlib", "\x78\x9c\x03\x00", 0, ClassGzipHeader},
		{"a tar whose first file is called like bzip2", string(renamed(t, "BZh9")), Uncompressed, ""},
	} {
		got, err := Detect([]byte(tc.head))
		var e *Error
		if errors.As(err, &e) != (tc.class != "") || got != tc.want || e != nil && e.Class != tc.class {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
}

func renamed(t *testing.T, name string) []byte {
	t.Helper()
	var p bytes.Buffer
	w := tar.NewWriter(&p)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: name}), w.Close()); err != nil {
		t.Fatal(err)
	}
	return p.Bytes()
}
