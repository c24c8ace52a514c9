package ztoc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// mixedTar is a tar of files that are random, of few letters, or empty.
func mixedTar(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	var p bytes.Buffer
	w := tar.NewWriter(&p)
	for i := range 1 + r.IntN(12) {
		body := make([]byte, r.IntN(200_000))
		switch r.IntN(3) {
		case 0:
			for k := range body {
				body[k] = byte(r.Uint32())
			}
		case 1:
			for k := range body {
				body[k] = byte('a' + r.IntN(3))
			}
		}
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("f", i), Size: int64(len(body)), Mode: 0o644})
		if _, werr := w.Write(body); errors.Join(err, werr) != nil {
			t.Fatal(err, werr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return p.Bytes()
}

// mixedGzip is a stream in members of all levels, flushed here and there.
func mixedGzip(t *testing.T, r *rand.Rand, plain []byte) []byte {
	t.Helper()
	var p bytes.Buffer
	for rest := plain; len(rest) > 0; {
		w, err := gzip.NewWriterLevel(&p, []int{0, 1, 6, gzip.HuffmanOnly}[r.IntN(4)])
		if err != nil {
			t.Fatal(err)
		}
		n := min(len(rest), 1+r.IntN(len(plain)))
		for part := rest[:n]; len(part) > 0; {
			k := min(len(part), 1+r.IntN(100_000))
			_, err = w.Write(part[:k])
			if part = part[k:]; r.IntN(3) == 0 {
				err = errors.Join(err, w.Flush())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	return p.Bytes()
}

// TestLanes: however many spans are hashed at once, and in whatever pieces a layer
// comes, the zTOC is the same, and its spans are the stream.
func TestLanes(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 4))
		plain := mixedTar(t, r)
		for c, layer := range map[Compression][]byte{Gzip: mixedGzip(t, r, plain), Uncompressed: plain} {
			size := 1 + r.Int64N(1<<(10+r.IntN(11)))
			var first *Result
			for k := range 4 {
				b, err := NewBuilder(size, Options{Compression: c, SerialHash: k%2 == 0, DiffID: true, SpillDir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				var from io.Reader = bytes.NewReader(layer)
				if k >= 2 {
					from = onlyWrite{bytes.NewReader(layer), 1 + r.IntN(600_000)}
				}
				_, err = io.Copy(b, from)
				res, ferr := b.Finish()
				if err = errors.Join(err, ferr); err != nil {
					t.Fatalf("seed %d, %s, spans of %d: %v", seed, c, size, err)
				}
				defer res.Close()
				if first == nil {
					first = res
				}
				if first.Digest != res.Digest || first.DiffID != res.DiffID || first.LayerDigest != res.LayerDigest {
					t.Errorf("seed %d, %s, spans of %d: build %d differs", seed, c, size, k)
				}
			}
			checkSpansOf(t, r, first, layer, plain)
		}
	}
}

// checkSpansOf reads some of the spans, and some ranges, back.
func checkSpansOf(t *testing.T, r *rand.Rand, res *Result, layer, plain []byte) {
	t.Helper()
	if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(plain)); sum != string(res.DiffID) {
		t.Errorf("diffID %s, want %s", res.DiffID, sum)
	}
	var p bytes.Buffer
	if _, err := res.WriteTo(&p); err != nil {
		t.Fatal(err)
	}
	z, table := parsed(t, p.Bytes()), tableOf(t, res)
	for i := 0; i < table.Len(); i += 1 + table.Len()/100 {
		s := table.Span(i)
		if fmt.Sprintf("sha256:%x", sha256.Sum256(layer[s.Off:s.End])) != string(s.Digest) {
			t.Fatalf("digest of span %d of %d", i, table.Len())
		}
	}
	for range 10 {
		off := r.IntN(len(plain))
		n := r.IntN(min(len(plain)-off, 50_000) + 1)
		var got bytes.Buffer
		if _, err := z.ReadRange(t.Context(), int64(off), int64(n), bytes.NewReader(layer), &got); err != nil || !bytes.Equal(got.Bytes(), plain[off:off+n]) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
	}
}

// TestNothingIsLeft of builds that are given up, cut off, or out of disk.
func TestNothingIsLeft(t *testing.T) {
	noise := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	layer, dir := gzipMember(t, append(oneFile(t, noise), make([]byte, 1024)...)), t.TempDir()
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			o := Options{SpillDir: dir, DiffID: i%2 == 0, SerialHash: i%3 == 0}
			if i%5 == 4 {
				o.SpillDir = filepath.Join(dir, "gone")
			}
			b, err := NewBuilder(0, o)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = b.Write(layer[:len(layer)*(i+1)/13]) // fails where the disk is gone
			if i%2 == 0 {
				b.Abort()
				b.Abort()
			} else if _, err := b.Finish(); err == nil {
				t.Error("a layer that is cut off has a zTOC")
			}
			_, err = b.Write([]byte("x"))
			_, again := b.Finish()
			if !errors.Is(err, ErrAborted) || !errors.Is(again, ErrAborted) {
				t.Errorf("afterwards: %v, %v", err, again)
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestResultIsShared: many may read a Result at once, until it is closed.
func TestResultIsShared(t *testing.T) {
	noise := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	r, err := build(bytes.NewReader(gzipMember(t, append(oneFile(t, noise), make([]byte, 1024)...))), 4096, Options{SpillDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			_, err := r.Table()
			if n, werr := r.WriteTo(io.Discard); errors.Join(err, werr) != nil || n != r.Size {
				t.Errorf("wrote %d: %v, %v", n, err, werr)
			}
		})
	}
	all.Wait()
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if _, err := r.Table(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Table of a closed Result: %v", err)
	}
}

// TestDeepName is a name with as many parts as a header can hold.
func TestDeepName(t *testing.T) {
	name := strings.Repeat("d/", 200_000) + "f"
	var p bytes.Buffer
	w := tar.NewWriter(&p)
	err := w.WriteHeader(&tar.Header{Name: name, Size: 1, Mode: 0o644, Format: tar.FormatGNU})
	_, werr := w.Write([]byte("x"))
	if err = errors.Join(err, werr, w.Close()); err != nil {
		t.Fatal(err)
	}
	b := builtOf(t, gzipMember(t, p.Bytes()), 4096, Gzip)
	z := parsed(t, b.ztoc)
	if err := z.CheckClient(); err != nil {
		t.Error(err)
	}
	var got strings.Builder
	if _, err := z.Extract(t.Context(), name, bytes.NewReader(b.layer), &got); err != nil || got.String() != "x" {
		t.Errorf("%q, %v", got.String(), err)
	}
}
