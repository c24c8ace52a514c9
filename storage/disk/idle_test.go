package disk

import (
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// countingFS counts files that are opened to be read, and those still open.
type countingFS struct {
	OS
	opened, open atomic.Int32
}

type countedFile struct {
	File
	open *atomic.Int32
}

func (c *countingFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := c.OS.OpenFile(name, flag, perm)
	if err != nil || flag != 0 {
		return f, err
	}
	c.opened.Add(1)
	c.open.Add(1)
	return countedFile{f, &c.open}, nil
}

func (f countedFile) Close() error {
	f.open.Add(-1)
	return f.File.Close()
}

func newCounted(t *testing.T) (*Disk, *countingFS) {
	t.Helper()
	c := &countingFS{}
	d, err := NewFS(t.TempDir(), c)
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

func put(t *testing.T, d *Disk, body string) digest.Digest {
	t.Helper()
	w, err := d.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	dgst := digest.FromString(body)
	if err := w.Commit(t.Context(), dgst); err != nil {
		t.Fatal(err)
	}
	return dgst
}

// read opens a blob and reads it. The caller closes it.
func read(t *testing.T, d *Disk, dgst digest.Digest) storage.Blob {
	t.Helper()
	b, err := d.Open(t.Context(), dgst)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil || digest.FromBytes(body) != dgst {
		t.Fatalf("%q, %v", body, err)
	}
	return b
}

func closeBlob(t *testing.T, b storage.Blob) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestIdleIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := newCounted(t)
		dgst := put(t, d, "x")
		c.opened.Store(0)
		c.open.Store(0)
		one, two := read(t, d, dgst), read(t, d, dgst)
		if one.File() == two.File() && one.File() != nil {
			t.Error("two readers have one file, and one offset")
		}
		closeBlob(t, one)
		closeBlob(t, two)
		if err := one.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("closed twice: %v, want ErrClosed", err)
		}
		for range 10 {
			closeBlob(t, read(t, d, dgst))
		}
		if n := c.opened.Load(); n != 2 {
			t.Errorf("%d files were opened for twelve readers, two at once", n)
		}
		time.Sleep(2 * idleFor) // of the bubble's own time
		synctest.Wait()
		if n := c.open.Load(); n != 0 {
			t.Errorf("%d files are open %v after their last use", n, 2*idleFor)
		}
	})
}

func TestIdleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := newCounted(t)
		dgst := put(t, d, "x")
		c.open.Store(0)
		var all []storage.Blob
		for range 2 * maxIdle {
			all = append(all, read(t, d, dgst))
		}
		for _, b := range all {
			closeBlob(t, b)
		}
		if n := c.open.Load(); n != maxIdle {
			t.Errorf("%d files are open, want %d", n, maxIdle)
		}
	})
}

// TestIdleIsForgotten holds that a file whose name went is not read again, also
// where it was being read while the name went.
func TestIdleIsForgotten(t *testing.T) {
	for name, lose := range map[string]func(*Disk, *testing.T, digest.Digest) error{
		"removed":     func(d *Disk, t *testing.T, dgst digest.Digest) error { return d.Remove(t.Context(), dgst) },
		"quarantined": func(d *Disk, t *testing.T, dgst digest.Digest) error { return d.Quarantine(t.Context(), dgst) },
	} {
		t.Run(name, func(t *testing.T) {
			d, c := newCounted(t)
			dgst, other := put(t, d, "x"), put(t, d, "y")
			c.open.Store(0)
			idle, busy := read(t, d, dgst), read(t, d, dgst)
			closeBlob(t, idle)
			closeBlob(t, read(t, d, other))
			if err := lose(d, t, dgst); err != nil {
				t.Fatal(err)
			}
			if b, err := d.Open(t.Context(), dgst); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Open: %v, %v, want ErrNotFound", b, err)
			}
			closeBlob(t, busy)
			if b, err := d.Open(t.Context(), dgst); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Open, when its last reader has left: %v, %v, want ErrNotFound", b, err)
			}
			if n := c.open.Load(); n != 1 {
				t.Errorf("%d files are open, want that of the other blob", n)
			}
			closeBlob(t, read(t, d, put(t, d, "x")))
		})
	}
}

// TestIdleEnds has the folder be closed: nothing is open any more, and nothing is
// left to run, whether or not files are idle or in use then.
func TestIdleEnds(t *testing.T) {
	for name, wait := range map[string]time.Duration{"before a sweep": 0, "when one is due": idleFor, "after one": 3 * idleFor} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, c := newCounted(t)
				dgst := put(t, d, "x")
				c.open.Store(0)
				busy := read(t, d, dgst)
				closeBlob(t, read(t, d, dgst))
				time.Sleep(wait) // of the bubble's own time
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				if n := c.open.Load(); n != 1 {
					t.Errorf("%d files are open, want the one that is read", n)
				}
				closeBlob(t, busy)
				closeBlob(t, read(t, d, dgst))
				if n := c.open.Load(); n != 0 {
					t.Errorf("%d files are open when their readers have left", n)
				}
				if d.idle.armed {
					t.Error("a sweep is to come")
				}
				if err := d.Close(); err != nil {
					t.Errorf("Close again: %v", err)
				}
			})
		})
	}
}
