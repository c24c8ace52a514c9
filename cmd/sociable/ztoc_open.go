package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// openedZTOC is a zTOC in a file, or in a store.
type openedZTOC struct {
	*ztoc.ZTOC
	size  int64
	layer digest.Digest // in a store: what it was made of
	file  *os.File
}

func (z *openedZTOC) Close() error { return z.file.Close() }

// openZTOC opens the zTOC that word means: a file, or the digest, or the
// beginning of one, of a zTOC in the store in dataDir.
func openZTOC(ctx context.Context, word, dataDir string) (*openedZTOC, error) {
	f, err := os.Open(word)
	var stored StoredZTOC
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(word, "sha256:") {
		if stored, err = findZTOC(ctx, word, dataDir); err == nil {
			f, err = openBlob(dataDir, stored.Digest)
		}
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	z, err := ztoc.Parse(f, fi.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", word, err), f.Close())
	}
	return &openedZTOC{z, fi.Size(), stored.LayerDigest, f}, nil
}

// findZTOC finds the one zTOC in a store whose digest begins with word.
func findZTOC(ctx context.Context, word, dataDir string) (found StoredZTOC, err error) {
	err = withStore(ctx, dataDir, func(api adminAPI) error {
		list, err := storedZTOCs(ctx, api, "")
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(z StoredZTOC) bool { return !strings.HasPrefix(z.Digest.String(), word) })
		switch len(list) {
		case 0:
			return fmt.Errorf("no zTOC %s in the store; sociable ztoc list shows what there is", word)
		case 1:
			found = list[0]
			return nil
		}
		return fmt.Errorf("%q could mean %d zTOCs; name one by its digest", word, len(list))
	})
	return found, err
}

// openBlob opens a verified blob by its file. Such a file never changes, so that
// it may be read while a server owns the store.
func openBlob(dataDir string, d digest.Digest) (*os.File, error) {
	if _, err := oci.ParseDigest(d.String()); err != nil {
		return nil, err
	}
	hex := d.Encoded()
	f, err := os.Open(filepath.Join(dataDir, "blobs", d.Algorithm().String(), hex[:2], hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not in the store: %w", d, err)
	}
	return f, err
}

// storedLayer reads a layer as far as it is in a store: whole, or in spans.
type storedLayer struct {
	dataDir string
	table   ztoc.SpanTable
	whole   *os.File
}

// openLayer opens the layer that z was made of.
func openLayer(dataDir string, z *openedZTOC) (*storedLayer, error) {
	table, err := z.Table()
	if err != nil {
		return nil, err
	}
	whole, err := openBlob(dataDir, z.layer)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &storedLayer{dataDir, table, whole}, nil
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
	f, err := openBlob(l.dataDir, s.Digest)
	if err != nil {
		return 0, fmt.Errorf("the layer is not whole in the store, and has no bytes at %d: %w", at, err)
	}
	defer f.Close()
	return io.ReadFull(io.NewSectionReader(f, at-s.Off, s.End-at), p[:min(int64(len(p)), s.End-at)])
}
