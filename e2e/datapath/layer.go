package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"
)

// layerInfo is what a layer's descriptor and its image's configuration say.
type layerInfo struct {
	Digest, DiffID digest.Digest
	Size           int64
}

// writeLayer writes a gzip layer of at least size compressed bytes: a tar of
// made-up files, as compressible as a root file system's. The same seed gives
// the same files.
func writeLayer(w io.Writer, size int64, seed uint64) (layerInfo, error) {
	out := &meter{w: w, hash: sha256.New()}
	packed := gzip.NewWriter(out)
	diff := sha256.New()
	files := newFiles(seed, size)
	archive := tar.NewWriter(io.MultiWriter(packed, diff))
	for out.n < size {
		if err := files.next(archive); err != nil {
			return layerInfo{}, fmt.Errorf("write a layer: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return layerInfo{}, fmt.Errorf("write a layer: %w", err)
	}
	if err := packed.Close(); err != nil {
		return layerInfo{}, fmt.Errorf("write a layer: %w", err)
	}
	return layerInfo{
		Digest: digest.NewDigest(digest.SHA256, out.hash),
		DiffID: digest.NewDigest(digest.SHA256, diff),
		Size:   out.n,
	}, nil
}

// gzipHeader is how long the header is that writeLayer makes (RFC 1952 §2.3).
const gzipHeader = 10

// writeVariant writes a layer again with a comment in its gzip header: another
// blob, of the same tar.
func writeVariant(w io.Writer, of layerInfo, original []byte, comment string) (layerInfo, error) {
	const hasComment = 1 << 4
	out := &meter{w: w, hash: sha256.New()}
	header := append([]byte(nil), original[:gzipHeader]...)
	header[3] |= hasComment
	for _, p := range [][]byte{header, append([]byte(comment), 0), original[gzipHeader:]} {
		if _, err := out.Write(p); err != nil {
			return layerInfo{}, err
		}
	}
	return layerInfo{Digest: digest.NewDigest(digest.SHA256, out.hash), DiffID: of.DiffID, Size: out.n}, nil
}

// meter counts and hashes what is written through it.
type meter struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.hash.Write(p[:n])
	m.n += int64(n)
	return n, err
}

const (
	words    = 4096 // of the vocabulary that texts are made of
	patterns = 2048 // of instructions that programs are made of
	draws    = 1 << 16
)

// files makes up one file after the other.
type files struct {
	rnd     *rand.Rand
	maxSize int
	n       int
	words   [][]byte
	code    [][]byte
	zipf    [draws]uint16 // ranks as often as Zipf's law has them
	buf     []byte
}

func newFiles(seed uint64, layerSize int64) *files {
	f := &files{
		rnd:     rand.New(rand.NewPCG(seed, 1)),
		maxSize: int(min(layerSize/8, 24<<20)),
	}
	for range words {
		f.words = append(f.words, f.letters(2+f.rnd.IntN(9)))
	}
	for range patterns {
		f.code = append(f.code, f.bytes(2+f.rnd.IntN(5)))
	}
	z := rand.NewZipf(f.rnd, 1.1, 4, patterns-1)
	for i := range f.zipf {
		f.zipf[i] = uint16(z.Uint64())
	}
	return f
}

func (f *files) letters(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(f.rnd.IntN(26)*f.rnd.IntN(26)/25)
	}
	return b
}

func (f *files) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.rnd.Uint32())
	}
	return b
}

// next writes one file: half are texts, the others programs, and one in ten is
// compressed already. Sizes are spread as they are on real systems.
func (f *files) next(w *tar.Writer) error {
	n := min(int(6<<10*math.Exp(2*f.rnd.NormFloat64())), f.maxSize)
	f.buf = f.buf[:0]
	switch kind := f.rnd.IntN(20); {
	case kind < 11:
		f.text(n)
	case kind < 18:
		f.program(n)
	default:
		f.buf = append(f.buf, f.bytes(n)...)
	}
	f.n++
	h := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     fmt.Sprintf("usr/share/part%03d/%s-%d", f.n/64, f.words[f.rnd.IntN(words)], f.n),
		Mode:     0o644,
		Size:     int64(n),
		ModTime:  time.Unix(1_700_000_000, 0),
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(f.buf[:n])
	return err
}

func (f *files) text(n int) {
	for len(f.buf) < n {
		x := f.rnd.Uint32()
		f.buf = append(f.buf, f.words[int(f.zipf[x%draws])+int(x>>16&1)*patterns]...)
		switch x >> 26 {
		case 0:
			f.buf = append(f.buf, '\n')
		case 1:
			f.buf = append(f.buf, ", "...)
		default:
			f.buf = append(f.buf, ' ')
		}
	}
}

func (f *files) program(n int) {
	for len(f.buf) < n {
		x := f.rnd.Uint32()
		f.buf = append(f.buf, f.code[f.zipf[x%draws]]...)
		if x>>29 == 0 { // an operand
			f.buf = append(f.buf, byte(x>>16), byte(x>>24), 0, 0)
		}
	}
}
