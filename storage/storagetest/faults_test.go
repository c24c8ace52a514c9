package storagetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sociable/sociable/storage/disk"
)

// TestPowerCut holds that the faults do to files what a medium may do: each loss
// to what was not synced, and nothing to what was.
func TestPowerCut(t *testing.T) {
	for _, tt := range []struct {
		loss Loss
		want map[string]string // what each file holds; "" for none
	}{
		{LoseNothing, map[string]string{"kept": "kept", "bytes": "wrote", "name": "wrote", "old": "", "new": "moved", "gone": "", "durably gone": ""}},
		{LoseBytes, map[string]string{"kept": "kept", "bytes": "\x00\x00\x00\x00\x00", "name": "wrote", "old": "", "new": "moved", "gone": "", "durably gone": ""}},
		{LoseNames, map[string]string{"kept": "kept", "bytes": "wrote", "name": "", "old": "moved", "new": "", "gone": "back", "durably gone": ""}},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "d")
		f := NewFaults(root)
		fsys := f.FS(disk.OS{})
		sync := func(name string) error {
			h, err := fsys.OpenFile(name, os.O_RDONLY, 0)
			return errors.Join(err, h.Sync(), h.Close())
		}
		write := func(name, body string, synced bool) error {
			h, err := fsys.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			_, err = h.Write([]byte(body))
			if synced {
				err = errors.Join(err, h.Sync())
			}
			return errors.Join(err, h.Close())
		}
		err := errors.Join(fsys.Mkdir(dir, 0o700),
			write("kept", "kept", true), write("old", "moved", true), write("gone", "back", true), write("durably gone", "x", true), write("bytes", "", true),
			fsys.Remove(filepath.Join(dir, "durably gone")), sync(dir),
			write("bytes", "wrote", false), write("name", "wrote", true),
			fsys.Rename(filepath.Join(dir, "old"), filepath.Join(dir, "new")), fsys.Remove(filepath.Join(dir, "gone")),
			f.PowerCut(tt.loss))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range tt.want {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if string(got) != want || (want == "") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("loss %d: %s holds %q, %v, want %q", tt.loss, name, got, err, want)
			}
		}
	}
}

// TestShortWrites holds that a write which fails has written a part.
func TestShortWrites(t *testing.T) {
	root := t.TempDir()
	f := NewFaults(root)
	h, err := f.FS(disk.OS{}).OpenFile(filepath.Join(root, "x"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	f.Hook(func(s Step) error {
		if s.Op == "write" {
			return full
		}
		return nil
	})
	n, err := h.Write([]byte("12345678"))
	m, aerr := h.WriteAt([]byte("abcd"), 10)
	if n != 4 || m != 2 || !errors.Is(err, full) || !errors.Is(aerr, full) {
		t.Errorf("Write: %d, %v; WriteAt: %d, %v, want half of each", n, err, m, aerr)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
