package proxy

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

const (
	// maxEncoded bounds the encoded zTOCs that are kept, in bytes on disk, and the
	// size of one that is encoded. minEncoded is what each counts for at least, so
	// that there are no more than 512.
	maxEncoded, minEncoded = 128 << 20, 256 << 10
	// maxEncoders is how many are encoded at once: each takes about 1 MB.
	maxEncoders = 2
)

// encodings keeps zTOCs gzip-encoded, in files of their own: all nodes of a
// cluster want the same at once, so each is encoded once, and sent by the kernel.
// Nothing of it is needed after a restart.
type encodings struct {
	dir   string
	store *storage.Store
	files *lru[digest.Digest, encoding]
	now   *share[encoding] // those that are being made
	slots chan struct{}    // cap maxEncoders; whoever's token is in it encodes
	pool  sync.Pool        // of *gzip.Writer
	bufs  *buffers
}

// encoding is a file of an encoded blob.
type encoding struct {
	name string
	size int64
}

func (e encoding) cost() int64 { return max(e.size, minEncoded) }

// encodedFile is an open encoding, with an offset of its own: a storage.Blob.
type encodedFile struct {
	f    *os.File
	size int64
}

func (e encodedFile) ReadAt(p []byte, off int64) (int, error) { return e.f.ReadAt(p, off) }
func (e encodedFile) Close() error                            { return e.f.Close() }
func (e encodedFile) Size() int64                             { return e.size }
func (e encodedFile) File() *os.File                          { return e.f }

func newEncodings(dir string, p *Proxy) *encodings {
	return &encodings{
		dir: dir, store: p.store, bufs: p.bufs, files: newLRU[digest.Digest](maxEncoded, encoding.cost),
		now: newShare[encoding](p.life, &p.work), slots: make(chan struct{}, maxEncoders),
	}
}

// open opens the encoded form of the blob of row, for its caller to close, after
// making it where it is not here.
func (e *encodings) open(ctx context.Context, row *storage.BlobRow) (encodedFile, error) {
	if x, ok := e.files.get(row.Digest); ok {
		if f, err := x.open(); err == nil {
			return f, nil
		}
		e.files.drop(row.Digest) // somebody cleaned up
	}
	x, err := e.now.do(ctx, row.Digest.String(), func(ctx context.Context) (encoding, error) { return e.make(ctx, row) })
	if err != nil {
		return encodedFile{}, fmt.Errorf("encode %s: %w", row.Digest, err)
	}
	return x.open()
}

func (e encoding) open() (encodedFile, error) {
	f, err := os.Open(e.name)
	return encodedFile{f, e.size}, err
}

// make encodes the blob of row, unless somebody just did.
func (e *encodings) make(ctx context.Context, row *storage.BlobRow) (x encoding, err error) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return x, context.Cause(ctx)
	}
	if x, ok := e.files.get(row.Digest); ok {
		return x, nil
	}
	b, err := e.store.OpenRow(ctx, *row)
	if err != nil {
		return x, err
	}
	defer b.Close() // only read from
	f, err := os.CreateTemp(e.dir, "encoded-*.gz")
	if err != nil {
		return x, err
	}
	x.name = f.Name()
	x.size, err = e.encode(f, b)
	if err = errors.Join(err, f.Close()); err != nil {
		return x, errors.Join(err, os.Remove(x.name))
	}
	return x, remove(e.files.put(row.Digest, x))
}

// encode writes b to f, encoded. The fastest level takes 8 ms for a megabyte; the
// best makes it a sixth smaller, in five times as long.
func (e *encodings) encode(f *os.File, b storage.Blob) (size int64, err error) {
	zw, _ := e.pool.Get().(*gzip.Writer)
	if zw == nil {
		if zw, err = gzip.NewWriterLevel(nil, gzip.BestSpeed); err != nil {
			return 0, err
		}
	}
	defer e.pool.Put(zw)
	out := bufio.NewWriterSize(f, chunk) // what gzip writes is small
	zw.Reset(out)
	buf := e.bufs.get()
	defer e.bufs.put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{zw}, io.NewSectionReader(b, 0, b.Size()), buf); err != nil {
		return 0, err
	}
	if err := errors.Join(zw.Close(), out.Flush()); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}

// end removes all files, once nothing is made any more.
func (e *encodings) end() error { return remove(e.files.clear()) }

// remove removes what is kept no more. Whoever has it open reads on.
func remove(old []encoding) (err error) {
	for _, x := range old {
		if rerr := os.Remove(x.name); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
