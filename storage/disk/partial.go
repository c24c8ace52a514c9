package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// partial is an open file under partial/, or under blobs/ once committed.
type partial struct {
	d    *Disk
	f    File
	key  string
	name string

	mu    sync.Mutex
	named bool  // its entry in partial/ is durable
	gone  bool  // committed or removed: no entry in partial/ any more
	blob  bool  // committed: not written any more
	lost  error // of a failed sync, after which the kernel forgets what it lost
}

// checkKey accepts plain names: letters, digits and `.:_-`, no leading dot.
func checkKey(key string) error {
	ok := key != "" && len(key) <= 200 && key[0] != '.'
	for i := 0; ok && i < len(key); i++ {
		c := key[i]
		ok = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
			c == '.' || c == ':' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%w: partial key %.100q", errName, key)
	}
	return nil
}

// OpenPartial opens or makes the file partial/<key>.
func (d *Disk) OpenPartial(ctx context.Context, key string) (storage.PartialFile, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	name := d.path("partial", key)
	f, err := d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open partial %s: %w", key, tell(err))
	}
	return &partial{d: d, f: f, key: key, name: name}, nil
}

// Reclaim renames the file of dgst to partial/<key>.
func (d *Disk) Reclaim(ctx context.Context, dgst digest.Digest, key string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := checkKey(key); err != nil {
		return err
	}
	_, from, err := d.blobPath(dgst)
	if err == nil {
		err = d.reclaim(from, d.path("partial", key))
		d.idle.forget(dgst)
	}
	if err != nil {
		return fmt.Errorf("reclaim %s for %s: %w", dgst, key, tell(err))
	}
	return nil
}

func (d *Disk) reclaim(from, to string) error {
	if _, err := d.fs.Stat(to); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.fs.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = f.Chmod(0o600) // before the rename: a partial must be writable
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.Rename(from, to); err != nil {
		return err
	}
	return d.syncFile(filepath.Dir(to))
}

func (p *partial) File() *os.File { return p.f.OS() }

func (p *partial) Close() error { return p.f.Close() }

func (p *partial) ReadAt(b []byte, off int64) (int, error) { return p.f.ReadAt(b, off) }

// WriteAt refuses a committed file: it is a blob then.
func (p *partial) WriteAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	blob := p.blob
	p.mu.Unlock()
	if blob {
		return 0, fmt.Errorf("write partial %s: %w", p.key, fs.ErrClosed)
	}
	n, err := p.f.WriteAt(b, off)
	if err != nil {
		return n, fmt.Errorf("write partial %s: %w", p.key, tell(err))
	}
	return n, nil
}

// Truncate refuses a committed file, as WriteAt does, and a removed one.
func (p *partial) Truncate(size int64) error {
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	if gone {
		return fmt.Errorf("cut partial %s: %w", p.key, fs.ErrClosed)
	}
	if err := p.f.Truncate(size); err != nil {
		return fmt.Errorf("cut partial %s: %w", p.key, tell(err))
	}
	return nil
}

// Sync makes the bytes durable, and the first time the file's name. Once it
// failed it fails for good: the next fsync would succeed without the bytes.
func (p *partial) Sync() error {
	p.mu.Lock()
	named, lost := p.named || p.gone, p.lost
	p.mu.Unlock()
	if lost != nil {
		return lost
	}
	err := p.f.Sync()
	if err == nil && !named {
		err = p.d.syncFile(p.d.path("partial"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.lost = fmt.Errorf("sync partial %s: %w", p.key, tell(err))
		return p.lost
	}
	p.named = true
	return nil
}

// Commit cuts the file to size and renames it to its digest.
func (p *partial) Commit(ctx context.Context, dgst digest.Digest, size int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, name, err := p.d.blobPath(dgst)
	if err != nil {
		return err
	}
	p.mu.Lock()
	wasGone, lost := p.gone, p.lost
	p.gone, p.blob = true, p.blob || !wasGone // no more writes, from now on
	p.mu.Unlock()
	switch {
	case wasGone:
		return fmt.Errorf("commit partial %s: %w", p.key, fs.ErrClosed)
	case lost != nil:
		err = lost
	default:
		err = p.commit(name, size)
	}
	if err != nil {
		p.mu.Lock()
		p.gone, p.blob = false, false
		p.mu.Unlock()
		return fmt.Errorf("commit partial %s: %w", p.key, tell(err))
	}
	return nil
}

func (p *partial) commit(name string, size int64) error {
	st, err := p.f.Stat()
	switch {
	case err != nil:
		return err
	case st.Size() < size:
		return fmt.Errorf("%w: %d of %d bytes", io.ErrUnexpectedEOF, st.Size(), size)
	case st.Size() > size:
		if err := p.f.Truncate(size); err != nil {
			return err
		}
	}
	if err := p.d.name(p.name, name); err != nil {
		return err
	}
	return p.f.Chmod(0o400) // not before: a partial that stays must stay writable
}

// Remove deletes partial/<key>.
func (p *partial) Remove() error {
	p.mu.Lock()
	wasGone := p.gone
	p.gone = true
	p.mu.Unlock()
	if wasGone {
		return nil
	}
	if err := p.d.remove(p.name); err != nil {
		return fmt.Errorf("remove partial %s: %w", p.key, err)
	}
	return nil
}
