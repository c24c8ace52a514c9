package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/ztoc"
)

// openedZTOC is a zTOC in a file, or in a place.
type openedZTOC struct {
	*ztoc.ZTOC
	size  int64
	layer digest.Digest // in a place: what it was made of
	file  *os.File
}

func (z *openedZTOC) Close() error { return z.file.Close() }

// openZTOC opens the zTOC that word means: a file, or the digest, or the
// beginning of one, of a zTOC in a place.
func openZTOC(ctx context.Context, word string, from place) (*openedZTOC, error) {
	f, size, err := openRandom("zTOC", word)
	var stored StoredZTOC
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(word, "sha256:") {
		if stored, err = from.ztoc(ctx, word); err == nil {
			f, size, err = openStored(stored, from)
		}
	}
	if err != nil {
		return nil, err
	}
	z, err := ztoc.Parse(f, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s%s: %w", word, looksLike(f, size), err), f.Close())
	}
	return &openedZTOC{z, size, stored.LayerDigest, f}, nil
}

// looksLike says what a file is that is no zTOC, as far as its first bytes tell.
func looksLike(f io.ReaderAt, size int64) string {
	var head [4]byte
	if size == 0 {
		return " is an empty file"
	}
	_, _ = f.ReadAt(head[:], 0) // what was not read tells nothing
	switch {
	case head[0] == 0x1f && head[1] == 0x8b:
		return " is a gzip file, a layer perhaps, no zTOC"
	case head[0] == '{':
		return " is JSON, a manifest perhaps, no zTOC"
	case size < 64:
		return " is too short for a zTOC"
	}
	return ""
}

// openStored opens a zTOC in a place, where it has the size that it is said to
// have there.
func openStored(z StoredZTOC, from place) (*os.File, int64, error) {
	f, err := from.blob(z.Digest)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != z.Size {
		err = fmt.Errorf("zTOC %s in %s is damaged: it has %d bytes, not %d", z.Digest, from, fi.Size(), z.Size)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, z.Size, nil
}

// storedLayer reads a layer as far as it is in a place: whole, or in spans.
type storedLayer struct {
	from  place
	table ztoc.SpanTable
	whole *os.File
}

// openLayer opens the layer that z was made of.
func openLayer(from place, z *openedZTOC) (*storedLayer, error) {
	table, err := z.Table()
	if err != nil {
		return nil, err
	}
	whole, err := from.blob(z.layer)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &storedLayer{from, table, whole}, nil
}

func (l *storedLayer) Close() error {
	if l.whole == nil {
		return nil
	}
	return l.whole.Close()
}

// ReadAt reads from the first span that holds some of the bytes, on to those
// behind it.
func (l *storedLayer) ReadAt(p []byte, off int64) (n int, err error) {
	if l.whole != nil {
		return l.whole.ReadAt(p, off)
	}
	for n < len(p) && err == nil {
		at := off + int64(n)
		first, last := l.table.Cover(at, at+1)
		if last < first {
			return n, io.EOF
		}
		var k int
		k, err = l.readSpan(l.table.Span(first), p[n:], at)
		n += k
	}
	return n, err
}

// readSpan reads what one span has of the bytes from at on.
func (l *storedLayer) readSpan(s ztoc.Span, p []byte, at int64) (int, error) {
	f, err := l.from.blob(s.Digest)
	if err != nil {
		return 0, fmt.Errorf("the layer is not whole in %s, and has no bytes at %d: %w", l.from, at, err)
	}
	defer f.Close()
	return io.ReadFull(io.NewSectionReader(f, at-s.Off, s.End-at), p[:min(int64(len(p)), s.End-at)])
}
