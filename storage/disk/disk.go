package disk

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// Disk is a storage.Blobs over a folder.
type Disk struct {
	root string
	fs   FS
	idle idle
	kept sync.Map // folders under blobs/<algorithm>/ that are durable: path -> struct{}
}

var _ storage.Blobs = (*Disk)(nil)

// New opens the folder dir, which it makes where it is missing, and removes
// what writers of an earlier process left behind unnamed.
func New(dir string) (*Disk, error) { return NewFS(dir, OS{}) }

// NewFS is New over another file system.
func NewFS(dir string, fsys FS) (*Disk, error) {
	d := &Disk{root: dir, fs: fsys}
	if err := d.makeFolders(); err != nil {
		return nil, fmt.Errorf("make blob folder %s: %w", dir, err)
	}
	if err := d.removeStale(); err != nil {
		return nil, fmt.Errorf("remove stale files in %s: %w", d.path("tmp"), err)
	}
	return d, nil
}

// makeFolders makes all but the folders of the hashes' first digits, which come
// with the first blob in each.
func (d *Disk) makeFolders() error {
	if err := d.mkdirAll(d.root); err != nil {
		return err
	}
	if err := d.mkdirs(d.root, "blobs", "partial", "tmp"); err != nil {
		return err
	}
	return d.mkdirs(d.path("blobs"), "sha256", "sha512")
}

// mkdirAll makes dir and its parents.
func (d *Disk) mkdirAll(dir string) error {
	if _, err := d.fs.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := d.mkdirAll(parent); err != nil {
		return err
	}
	return d.mkdirs(parent, filepath.Base(dir))
}

// mkdirs makes folders in parent. It syncs parent even where all are there: the
// process that made them may not have come so far.
func (d *Disk) mkdirs(parent string, names ...string) error {
	for _, name := range names {
		if err := d.fs.Mkdir(filepath.Join(parent, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return d.syncFile(parent)
}

func (d *Disk) removeStale() error {
	entries, err := d.fs.ReadDir(d.path("tmp"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.remove(d.path("tmp", e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) path(elem ...string) string {
	p := d.root
	for _, e := range elem {
		p += string(filepath.Separator) + e
	}
	return p
}

// blobPath refuses every digest that is not of a supported algorithm in
// canonical form, so that none can point out of its folder.
func (d *Disk) blobPath(dgst digest.Digest) (dir, file string, err error) {
	algorithm, hex, err := split(dgst)
	if err != nil {
		return "", "", err
	}
	dir = d.path("blobs", algorithm, hex[:2])
	return dir, dir + string(filepath.Separator) + hex, nil
}

func split(dgst digest.Digest) (algorithm, hex string, err error) {
	algorithm, hex, _ = strings.Cut(string(dgst), ":")
	ok := len(hex) == 2*hashSize[algorithm] && hex != ""
	for i := 0; ok && i < len(hex); i++ {
		ok = '0' <= hex[i] && hex[i] <= '9' || 'a' <= hex[i] && hex[i] <= 'f'
	}
	if !ok {
		return "", "", fmt.Errorf("%w: unsupported digest %.100q", errName, string(dgst))
	}
	return algorithm, hex, nil
}

// hashSize holds the supported algorithms.
var hashSize = map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}

// errName refuses what must not become a file name.
var errName = errors.New("invalid name")

// openFile is a file of dgst that is read from its first byte on.
func (d *Disk) openFile(dgst digest.Digest, name string) (f File, epoch uint64, err error) {
	if f, epoch = d.idle.take(dgst); f == nil {
		f, err = d.fs.OpenFile(name, os.O_RDONLY, 0)
		return f, epoch, err
	}
	if file := f.OS(); file != nil {
		if _, err = file.Seek(0, io.SeekStart); err != nil {
			return nil, epoch, errors.Join(err, f.Close())
		}
	}
	return f, epoch, nil
}

// blob is an open file under blobs/.
type blob struct {
	in     *Disk
	d      digest.Digest
	f      File
	size   int64
	epoch  uint64 // of idle
	closed atomic.Bool
}

func (b *blob) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }
func (b *blob) Size() int64                             { return b.size }
func (b *blob) File() *os.File                          { return b.f.OS() }

// Close leaves the file to the next reader.
func (b *blob) Close() error {
	if b.closed.Swap(true) {
		return fs.ErrClosed
	}
	return b.in.idle.give(b.d, b.f, b.epoch)
}

// Open opens the file of dgst, or takes one that is still open.
func (d *Disk) Open(ctx context.Context, dgst digest.Digest) (storage.Blob, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	_, name, err := d.blobPath(dgst)
	if err != nil {
		return nil, err
	}
	f, epoch, err := d.openFile(dgst, name)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", dgst, tell(err))
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("open blob %s: %w", dgst, err)
	}
	if !st.Mode().IsRegular() { // none of ours
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("open blob %s: it is no file: %w", dgst, storage.ErrNotFound)
	}
	return &blob{in: d, d: dgst, f: f, size: st.Size(), epoch: epoch}, nil
}

// Close closes the files that are kept open for their next reader, and keeps none
// from then on. All else goes on working.
func (d *Disk) Close() error {
	d.idle.end()
	return nil
}

// Renew has the next Open look for the file of dgst by its name: another program
// may have put another one there.
func (d *Disk) Renew(dgst digest.Digest) { d.idle.forget(dgst) }

// Remove deletes the file of dgst.
func (d *Disk) Remove(ctx context.Context, dgst digest.Digest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, name, err := d.blobPath(dgst)
	if err != nil {
		return err
	}
	err = d.remove(name)
	d.idle.forget(dgst)
	if err != nil {
		return fmt.Errorf("remove blob %s: %w", dgst, err)
	}
	return nil
}

// Quarantine renames the file of dgst into quarantine/.
func (d *Disk) Quarantine(ctx context.Context, dgst digest.Digest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, name, err := d.blobPath(dgst)
	if err == nil {
		err = d.mkdirs(d.root, "quarantine")
	}
	if err == nil {
		err = d.fs.Rename(name, d.path("quarantine", dgst.Algorithm().String()+"-"+dgst.Encoded()))
		d.idle.forget(dgst)
	}
	if err != nil {
		return fmt.Errorf("quarantine blob %s: %w", dgst, tell(err))
	}
	return nil
}

// Free is the room left on the folder's file system.
func (d *Disk) Free(ctx context.Context) (free, total int64, err error) {
	if ctx.Err() != nil {
		return -1, -1, context.Cause(ctx)
	}
	if free, total, err = d.fs.Free(d.root); err != nil {
		return -1, -1, fmt.Errorf("ask for free space in %s: %w", d.root, err)
	}
	return free, total, nil
}

// tell turns the operating system's errors into those of the contract.
func tell(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return storage.ErrNotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}
