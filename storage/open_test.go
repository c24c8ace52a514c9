package storage_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// glances is a file system that counts how often a blob, and a folder of blobs, is
// looked at.
type glances struct {
	storagetest.NoSync
	files, folders atomic.Int64
}

func (g *glances) note(name string, n *atomic.Int64) {
	if strings.Contains(name, string(filepath.Separator)+"blobs"+string(filepath.Separator)) {
		n.Add(1)
	}
}

func (g *glances) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	g.note(name, &g.files)
	return g.NoSync.OpenFile(name, flag, perm)
}

func (g *glances) Stat(name string) (fs.FileInfo, error) {
	g.note(name, &g.files)
	return g.NoSync.Stat(name)
}

func (g *glances) ReadDir(name string) ([]fs.DirEntry, error) {
	g.note(name, &g.folders)
	list, err := g.NoSync.ReadDir(name)
	for i, e := range list {
		if !e.IsDir() {
			list[i] = glanced{e, g}
		}
	}
	return list, err
}

// glanced is a file in a folder.
type glanced struct {
	fs.DirEntry
	g *glances
}

func (e glanced) Info() (fs.FileInfo, error) {
	e.g.files.Add(1)
	return e.DirEntry.Info()
}

// TestOpenLooksAtNoFile opens a store, until a byte can be written: what that costs
// for a blob is its row and its name, however many there are.
func TestOpenLooksAtNoFile(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, nil, storage.Options{})
	for i := range 600 {
		r.mustPut([]byte(fmt.Sprint("blob", i)), storage.KindBlob, storage.Cached)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	looked := &glances{}
	blobs, err := disk.NewFS(dir, looked)
	if err != nil {
		t.Fatal(err)
	}
	r = r.reopen(storage.Options{Blobs: blobs})
	w, err := r.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeIt(t, w)
	if n := r.Usage().Blobs[storage.KindBlob]; n != 600 {
		t.Errorf("%d blobs are counted", n)
	}
	if files, folders := looked.files.Load(), looked.folders.Load(); files > 0 || folders > 2*(256+1) {
		t.Errorf("files were looked at %d times, folders %d times, want 0, and each once", files, folders)
	}
}
