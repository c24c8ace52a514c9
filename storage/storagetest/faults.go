package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// ErrCrashed is what everything returns after the step at which Faults was told
// to crash: to the code under test the process is dead.
var ErrCrashed = errors.New("crashed")

// Step is one call that changes what is stored, about to be made.
type Step struct {
	N    int    // from 1
	Op   string // create, write, sync, truncate, chmod, rename, remove, mkdir, update, updated
	Name string // the file's, relative to the store's folder; "" for rows
}

// Faults puts itself between a store and what it writes to. It fails the steps
// that a hook picks, dies at a chosen one, and acts out what a power cut does to
// bytes and names that were not synced. A step "update" comes before a write of
// rows, a step "updated" after it: to fail there is "failed but stored".
type Faults struct {
	root string

	mu      sync.Mutex
	n       int
	crashAt int
	hook    func(Step) error
	dirty   map[string][]oci.Range // bytes that were not synced, by path
	unnamed map[string]string      // names that were not synced, and what they were renamed from, if that was
	removed removals
}

// NewFaults makes one for a store in the folder root.
func NewFaults(root string) *Faults {
	return &Faults{root: root, dirty: map[string][]oci.Range{}, unnamed: map[string]string{}}
}

// Hook has fn called before each step: its error is the step's. nil for none.
func (f *Faults) Hook(fn func(Step) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = fn
}

// CrashAt has step n and everything after it fail with ErrCrashed; 0 is never.
func (f *Faults) CrashAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = n
}

// Steps is how many there were.
func (f *Faults) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// step is called before each change.
func (f *Faults) step(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.crashAt > 0 && f.n >= f.crashAt {
		return ErrCrashed
	}
	if f.hook == nil {
		return nil
	}
	return f.hook(Step{f.n, op, strings.TrimPrefix(name, f.root+string(filepath.Separator))})
}

// alive fails a call that changes nothing, once crashed.
func (f *Faults) alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashAt > 0 && f.n >= f.crashAt {
		return ErrCrashed
	}
	return nil
}

// Loss is what a power cut does to what was not synced.
type Loss int

// A crash of the process alone keeps everything; the others are what a medium
// may do.
const (
	LoseNothing Loss = iota // kill -9
	LoseBytes               // names are there, their bytes are not
	LoseNames               // names are gone, and with them the bytes; what was renamed has its old one, what was removed is back
)

// PowerCut does to the files what loss says, as found by the next start.
func (f *Faults) PowerCut(loss Loss) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for name, lost := range f.dirty {
		if loss == LoseBytes {
			errs = append(errs, zero(name, lost))
		}
	}
	for name, was := range f.unnamed {
		switch {
		case loss == LoseNames && was != "":
			errs = append(errs, ignoreAbsent(os.Rename(name, was)))
		case loss == LoseNames:
			errs = append(errs, ignoreAbsent(os.Remove(name)))
		}
	}
	clear(f.dirty)
	clear(f.unnamed)
	return errors.Join(append(errs, f.removed.powerCut(loss == LoseNames))...)
}

// zero leaves a file's size, as a file system does that had allocated it.
func zero(name string, lost []oci.Range) error {
	st, err := os.Stat(name)
	if err != nil {
		return ignoreAbsent(err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY, 0) // also read-only ones, as root
	if errors.Is(err, fs.ErrPermission) {
		if err := os.Chmod(name, 0o600); err != nil {
			return err
		}
		file, err = os.OpenFile(name, os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	errs := make([]error, 0, len(lost)+1)
	for _, r := range lost {
		r.End = min(r.End, st.Size())
		_, err := file.WriteAt(make([]byte, max(0, r.Len())), r.Off)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, file.Close())...)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// FS puts the faults before fsys.
func (f *Faults) FS(fsys disk.FS) disk.FS { return &faultFS{f, fsys} }

type faultFS struct {
	f *Faults
	disk.FS
}

func (s *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	made := false
	if flag&os.O_CREATE != 0 {
		if _, err := s.FS.Stat(name); err != nil {
			made = true
		}
	}
	err := s.f.alive()
	if made {
		err = s.f.step("create", name)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	file, err := s.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	if made {
		s.f.mu.Lock()
		s.f.unnamed[name] = ""
		s.f.mu.Unlock()
	}
	return &faultFile{File: file, f: s.f, name: name}, nil
}

// wrote notes bytes that a power cut may lose.
func (f *Faults) wrote(name string, off int64, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty[name] = append(f.dirty[name], oci.Range{Off: off, End: off + int64(n)})
}

func (s *faultFS) Mkdir(name string, perm fs.FileMode) error {
	if err := s.f.step("mkdir", name); err != nil {
		return err
	}
	return s.FS.Mkdir(name, perm)
}

func (s *faultFS) Rename(from, to string) error {
	if err := s.f.step("rename", to); err != nil {
		return err
	}
	if err := s.FS.Rename(from, to); err != nil {
		return err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if lost := s.f.dirty[from]; lost != nil {
		s.f.dirty[to] = lost
	}
	was, unnamed := s.f.unnamed[from]
	if !unnamed {
		was = from
	}
	s.f.unnamed[to] = was
	delete(s.f.dirty, from)
	delete(s.f.unnamed, from)
	return nil
}

func (s *faultFS) Remove(name string) error {
	if err := s.f.step("remove", name); err != nil {
		return err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	_, unnamed := s.f.unnamed[name]
	if err := s.f.removed.remove(s.FS, s.f.root, name, !unnamed && s.f.dirty[name] == nil); err != nil {
		return err
	}
	delete(s.f.dirty, name)
	delete(s.f.unnamed, name)
	return nil
}

func (s *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := s.f.alive(); err != nil {
		return nil, err
	}
	return s.FS.Stat(name)
}

func (s *faultFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := s.f.alive(); err != nil {
		return nil, err
	}
	return s.FS.ReadDir(name)
}

// faultFile knows the name it was opened by. A file that is renamed while it is
// open is not written any more, so that is enough.
type faultFile struct {
	disk.File
	f    *Faults
	name string
	end  int64 // of what Write wrote
}

func (h *faultFile) Write(p []byte) (n int, err error) {
	if err = h.f.step("write", h.name); err != nil {
		p = p[:len(p)/2] // a short write: the worst kind
	}
	n, werr := h.File.Write(p)
	h.f.wrote(h.name, h.end, n)
	h.end += int64(n)
	return n, errors.Join(err, werr)
}

func (h *faultFile) WriteAt(p []byte, off int64) (n int, err error) {
	if err = h.f.step("write", h.name); err != nil {
		p = p[:len(p)/2]
	}
	n, werr := h.File.WriteAt(p, off)
	h.f.wrote(h.name, off, n)
	return n, errors.Join(err, werr)
}

func (h *faultFile) Truncate(size int64) error {
	if err := h.f.step("truncate", h.name); err != nil {
		return err
	}
	return h.File.Truncate(size)
}

func (h *faultFile) Chmod(mode fs.FileMode) error {
	if err := h.f.step("chmod", h.name); err != nil {
		return err
	}
	return h.File.Chmod(mode)
}

// Sync of a file keeps its bytes, of a folder the names in it. The medium need
// not be bothered: PowerCut goes by what was noted here.
func (h *faultFile) Sync() error {
	if err := h.f.step("sync", h.name); err != nil {
		return err
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	delete(h.f.dirty, h.name)
	for name := range h.f.unnamed {
		if filepath.Dir(name) == h.name {
			delete(h.f.unnamed, name)
		}
	}
	return h.f.removed.synced(h.name)
}

// Meta puts the faults before m.
func (f *Faults) Meta(m storage.Meta) storage.Meta { return &faultMeta{f, m} }

type faultMeta struct {
	f *Faults
	storage.Meta
}

func (m *faultMeta) View(ctx context.Context, fn func(storage.Tx) error) error {
	if err := m.f.alive(); err != nil {
		return err
	}
	return m.Meta.View(ctx, fn)
}

func (m *faultMeta) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if err := m.f.step("update", ""); err != nil {
		return err
	}
	if err := m.Meta.Update(ctx, fn); err != nil {
		return err
	}
	return m.f.step("updated", "")
}
