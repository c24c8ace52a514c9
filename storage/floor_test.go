package storage_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// slow is a medium on which something happens before a write, and before it tells how
// much is free, each once.
type slow struct {
	meter
	write, free func()
}

func (m *slow) Free(name string) (free, total int64, err error) {
	free, total, err = m.meter.Free(name)
	if fn := m.free; fn != nil {
		m.free = nil
		fn()
	}
	return free, total, err
}

func (m *slow) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := m.meter.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, m}, nil
}

type slowFile struct {
	disk.File
	m *slow
}

func (f *slowFile) WriteAt(p []byte, off int64) (int, error) {
	if fn := f.m.write; fn != nil {
		f.m.write = nil
		fn()
	}
	return f.File.WriteAt(p, off)
}

// TestFloorWhileWritten has one ask for room while what another was promised is
// written: these bytes are counted as missing until they are missing.
func TestFloorWhileWritten(t *testing.T) {
	for name, meanwhile := range map[string]func(m *slow, write, ask func()){
		"one asks in the middle of a write":  func(m *slow, write, ask func()) { m.write = ask; write() },
		"one writes in the middle of asking": func(m *slow, write, ask func()) { m.free = write; ask() },
	} {
		t.Run(name, func(t *testing.T) {
			medium := &slow{meter: meter{total: 1_000_000}}
			dir := t.TempDir()
			blobs, err := disk.NewFS(dir, medium)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MinFree: 500_000})
			body := kb("first", 300)
			first, second := r.openPartial(digest.FromBytes(body)), r.openPartial(digest.FromString("second"))
			defer closeIt(t, first)
			defer closeIt(t, second)
			if err := first.Reserve(t.Context(), 300_000); err != nil {
				t.Fatal(err)
			}
			asked := false
			meanwhile(medium, func() { writeAt(t, first, body, ranges(0, 300_000)...) }, func() {
				asked = true
				if err := second.Reserve(t.Context(), 300_000); !errors.Is(err, storage.ErrFull) {
					t.Errorf("Reserve: %v, want ErrFull", err)
				}
			})
			if !asked || medium.used.Load() != 300_000 {
				t.Errorf("asked: %v, %d bytes are written", asked, medium.used.Load())
			}
			if err := second.Reserve(t.Context(), 200_000); err != nil {
				t.Errorf("Reserve of what there is: %v", err)
			}
		})
	}
}
