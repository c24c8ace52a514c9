package disk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// writer is a file under tmp/ that has no name yet.
type writer struct {
	d    *Disk
	f    File // nil once it is written, or dropped
	name string
	hash hash.Hash
	is   digest.Digest // once it is written, and only its name is missing
}

// Create makes a file under tmp/.
func (d *Disk) Create(ctx context.Context) (storage.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	name := d.path("tmp", rand.Text())
	f, err := d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", tell(err))
	}
	return &writer{d: d, f: f, name: name, hash: sha256.New()}, nil
}

// Write appends p.
func (w *writer) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("write blob: %w", fs.ErrClosed)
	}
	n, err := w.f.Write(p)
	w.hash.Write(p[:n]) // never fails
	if err != nil {
		return n, fmt.Errorf("write blob: %w", tell(err))
	}
	return n, nil
}

// Commit renames the file to its digest. Where there is no room for the name,
// ErrFull, the file stays until Close, and Commit may be called again.
func (w *writer) Commit(ctx context.Context, dgst digest.Digest) error {
	if w.f == nil && (w.is == "" || w.is != dgst) {
		return fmt.Errorf("commit blob %s: %w", dgst, fs.ErrClosed)
	}
	_, name, err := w.d.blobPath(dgst)
	if err != nil {
		return err
	}
	if w.f != nil {
		if err := w.finish(ctx, dgst); err != nil {
			return fmt.Errorf("commit blob %s: %w", dgst, err)
		}
	}
	err = tell(w.d.name(w.name, name))
	if errors.Is(err, storage.ErrFull) {
		return fmt.Errorf("commit blob %s: %w", dgst, err)
	}
	w.is = ""
	if err != nil {
		return fmt.Errorf("commit blob %s: %w", dgst, errors.Join(err, w.d.remove(w.name)))
	}
	return nil
}

// finish checks the file and closes it. When that fails it is gone.
func (w *writer) finish(ctx context.Context, dgst digest.Digest) error {
	got, err := w.digest(ctx, dgst.Algorithm())
	if err != nil {
		return err
	}
	if got != dgst {
		return errors.Join(fmt.Errorf("%w: they are %s", storage.ErrDigest, got), w.drop())
	}
	err = w.f.Chmod(0o400)
	if cerr := w.f.Close(); err == nil {
		err = cerr // some file systems tell only now that a write was lost
	}
	w.f = nil
	if err != nil {
		return errors.Join(tell(err), w.d.remove(w.name))
	}
	w.is = dgst
	return nil
}

// digest has sha256 at hand, and reads the file again for another algorithm:
// to hash each blob twice would cost more than the few that come by sha512.
func (w *writer) digest(ctx context.Context, a digest.Algorithm) (digest.Digest, error) {
	if a == digest.SHA256 {
		return digest.NewDigest(a, w.hash), nil
	}
	st, err := w.f.Stat()
	if err != nil {
		return "", err
	}
	h := a.Hash()
	if err := storage.ReadInto(ctx, h, w.f, st.Size(), nil); err != nil {
		return "", err
	}
	return digest.NewDigest(a, h), nil
}

// Close drops the file unless it was committed.
func (w *writer) Close() error {
	if w.f == nil && w.is == "" {
		return nil
	}
	return w.drop()
}

func (w *writer) drop() error {
	if w.f != nil {
		_ = w.f.Close() // what could not be written was not wanted either
	}
	w.f, w.is = nil, ""
	if err := w.d.remove(w.name); err != nil {
		return fmt.Errorf("drop unfinished blob: %w", err)
	}
	return nil
}

// remove deletes a file; that there is none is success.
func (d *Disk) remove(name string) error {
	if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// name renames from to to. What is already under to stays.
func (d *Disk) name(from, to string) error {
	if _, err := d.fs.Stat(to); err == nil {
		return d.fs.Remove(from)
	}
	err := d.fs.Rename(from, to)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.fs.Mkdir(filepath.Dir(to), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.fs.Rename(from, to)
}

// maxSyncs is how many files are synced at once: the file system's journal takes
// what waits together in one write.
const maxSyncs = 8

// Sync makes each file and then each folder durable, a folder once.
func (d *Disk) Sync(ctx context.Context, ds ...digest.Digest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed := map[digest.Digest]error{}
	files, folders := map[string]error{}, map[string]error{}
	for _, dgst := range ds {
		if _, name, err := d.blobPath(dgst); err != nil {
			failed[dgst] = err
		} else {
			files[name] = nil
		}
	}
	syncAll(files, d.syncFile)
	for name, err := range files {
		if err == nil {
			folders[filepath.Dir(name)] = nil
		}
	}
	syncAll(folders, d.syncFolder)
	for _, dgst := range ds {
		if dir, name, err := d.blobPath(dgst); err == nil {
			if err := errors.Join(files[name], folders[dir]); err != nil {
				failed[dgst] = tell(err)
			}
		}
	}
	if len(failed) > 0 {
		return &storage.SyncError{Errs: failed}
	}
	return nil
}

// syncAll calls with each of names, several at once, and sets the error there.
func syncAll(names map[string]error, call func(string) error) {
	var work sync.WaitGroup
	var mu sync.Mutex // guards names
	slots := make(chan struct{}, maxSyncs)
	for _, name := range slices.Collect(maps.Keys(names)) {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if err := call(name); err != nil {
				mu.Lock()
				defer mu.Unlock()
				names[name] = err
			}
		})
	}
	work.Wait()
}

// syncFolder syncs a folder, and where this process did not yet, the one above
// it: whoever made the folder leaves that to the first who relies on it.
func (d *Disk) syncFolder(dir string) error {
	if err := d.syncFile(dir); err != nil {
		return err
	}
	if _, ok := d.kept.Load(dir); ok {
		return nil
	}
	if err := d.syncFile(filepath.Dir(dir)); err != nil {
		return err
	}
	d.kept.Store(dir, struct{}{})
	return nil
}

// syncFile syncs a file or folder by its name. A write that failed after its
// writer closed the file is still reported: the kernel keeps it for the next
// one who opens it.
func (d *Disk) syncFile(name string) error {
	f, err := d.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
