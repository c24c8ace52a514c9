package storage_test

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// halfFailing is a meter whose next writes at an offset fail, after half of their bytes.
type halfFailing struct {
	meter
	next atomic.Int64
}

func (m *halfFailing) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := m.meter.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &failingFile{f, m}, nil
}

type failingFile struct {
	disk.File
	m *halfFailing
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.m.next.Add(-1) < 0 {
		return f.File.WriteAt(p, off)
	}
	n, err := f.File.WriteAt(p[:len(p)/2], off)
	return n, errors.Join(err, syscall.EIO)
}

// TestPartialWriteFails: what was not written does not count as written, and once it
// is, by another try, it does.
func TestPartialWriteFails(t *testing.T) {
	for _, again := range []bool{false, true} {
		medium := &halfFailing{meter: meter{total: 1_000_000}}
		dir := t.TempDir()
		blobs, err := disk.NewFS(dir, medium)
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MinFree: 500_000})
		body := kb("first", 300)
		first, second := r.openPartial(digest.FromBytes(body)), r.openPartial(digest.FromString("second"))
		defer closeIt(t, second)
		if err := first.Reserve(t.Context(), 300_000); err != nil {
			t.Fatal(err)
		}
		writeAt(t, first, body, ranges(0, 100_000)...)
		if err := first.Checkpoint(t.Context(), 300_000, ranges(0, 100_000)); err != nil {
			t.Fatal(err)
		}
		medium.next.Store(1)
		if n, err := first.WriteAt(body[100_000:], 100_000); n != 100_000 || !errors.Is(err, syscall.EIO) {
			t.Fatalf("the write that fails: %d bytes, %v", n, err)
		}
		want := int64(200_000)
		if again {
			writeAt(t, first, body, ranges(100_000, 300_000)...)
			want = 300_000
		}
		// The meter counts what is written twice as twice on the medium; what stays
		// above the floor is what first has not written.
		free, _, err := medium.Free(dir)
		if err != nil {
			t.Fatal(err)
		}
		left := free - 500_000 - (300_000 - want)
		if err := second.Reserve(t.Context(), left); err != nil {
			t.Errorf("again %v: Reserve of the %d bytes above the floor: %v", again, left, err)
		}
		if err := second.Reserve(t.Context(), left+1); !errors.Is(err, storage.ErrFull) {
			t.Errorf("again %v: Reserve of one byte more: %v", again, err)
		}
		closeIt(t, first)
		if got := r.Usage().Partial; got != want {
			t.Errorf("again %v: account of partials: %d bytes, want the %d that the file has", again, got, want)
		}
	}
}
