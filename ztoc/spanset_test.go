package ztoc

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// plainTar is a tar, and so many zeros behind it.
func plainTar(t *testing.T, size int) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata/inputs", "all-types.tar"))
	if err != nil {
		t.Fatal(err)
	}
	return append(p, make([]byte, size)...)
}

// TestManySpans has more digests than are kept in memory, hashed by one and by
// two at once: the zTOC is the same, and the table is that of the layer.
func TestManySpans(t *testing.T) {
	const spanSize = 16
	layer := plainTar(t, sumChunk/sha256.Size*(sumMemory+2)*2*spanSize)
	var first *Result
	for _, serial := range []bool{true, false} {
		r, err := build(bytes.NewReader(layer), spanSize, Options{Compression: Uncompressed, SpillDir: t.TempDir(), SerialHash: serial})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if r.spill.end == 0 {
			t.Error("nothing is spilled")
		}
		table := tableOf(t, r)
		if table.Len() != r.Spans || r.Spans != len(layer)/spanSize {
			t.Fatalf("%d spans, %d in the table, of %d bytes", r.Spans, table.Len(), len(layer))
		}
		for i := range table.Len() {
			s := table.Span(i)
			if sum := sha256.Sum256(layer[i*spanSize : (i+1)*spanSize]); s.Off != int64(i*spanSize) || !bytes.Equal(table.sum[i*sha256.Size:][:sha256.Size], sum[:]) {
				t.Fatalf("span %d: %v", i, s)
			}
		}
		if first == nil {
			first = r
		} else if r.Digest != first.Digest || !reflect.DeepEqual(table, tableOf(t, first)) {
			t.Errorf("hashed by two: %s; by one: %s", r.Digest, first.Digest)
		}
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := first.Table(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("table after Close: %v", err)
	}
}

// TestSpanSpillFails: where digests can't be kept, there is no zTOC.
func TestSpanSpillFails(t *testing.T) {
	layer := plainTar(t, sumChunk/sha256.Size*(sumMemory+2)*2*16)
	r, err := build(bytes.NewReader(layer), 16, Options{Compression: Uncompressed, SpillDir: filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v, %v", r, err)
	}
}
