// Package storagetest has the contract that every implementation of
// storage.Blobs and storage.Meta passes, a file system that fails when it is
// told to, and a real store for the tests of other packages.
package storagetest

import (
	"context"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
)

// NewStore gives a running Store over a real folder and a real bbolt file in
// t.TempDir. It stops, and has made everything durable, before t ends.
func NewStore(t testing.TB) *storage.Store {
	t.Helper()
	return Start(t, t.TempDir(), storage.Options{})
}

// Start gives a running Store over dir, which may hold one already. Blobs and
// Meta of o, where nil, are a disk.Disk and a bolt.DB in dir. It stops before t
// ends; use Open where a test stops it itself.
func Start(t testing.TB, dir string, o storage.Options) *storage.Store {
	t.Helper()
	s, stop := Open(t, dir, o)
	t.Cleanup(stop)
	return s
}

// Open is Start with the stopping left to the caller.
func Open(t testing.TB, dir string, o storage.Options) (s *storage.Store, stop func()) {
	t.Helper()
	var meta storage.Meta
	closeBlobs := func() error { return nil }
	if o.Meta == nil {
		db, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
		if err != nil {
			t.Fatalf("open rows: %v", err)
		}
		meta, o.Meta = db, db
	}
	if o.Blobs == nil {
		blobs, err := disk.NewFS(dir, NoSync{})
		if err != nil {
			t.Fatalf("open blobs: %v", err)
		}
		o.Blobs, closeBlobs = blobs, blobs.Close
	}
	s = storage.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("store: Run returned %v", err)
		}
		if err := closeBlobs(); err != nil {
			t.Errorf("close blobs: %v", err)
		}
		if meta == nil {
			return
		}
		if err := meta.Close(); err != nil {
			t.Errorf("close rows: %v", err)
		}
	}
}

// NoSync is the operating system's file system without the wait for the medium:
// a crash of the test's machine may take its files along.
type NoSync struct{ disk.OS }

// OpenFile opens a file whose Sync does nothing.
func (NoSync) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := disk.OS{}.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

type noSyncFile struct{ disk.File }

func (noSyncFile) Sync() error { return nil }
