package storage_test

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPurgedPartial purges a partial that is being written, of whoever's source: it is
// written on and read beside the next one of its digest, which becomes the blob, and
// takes room until it is closed.
func TestPurgedPartial(t *testing.T) {
	const size = 100_000
	body := kb("purged", 100)
	d := digest.FromBytes(body)
	for name, beside := range map[string]bool{"of its digest": false, "beside another": true} {
		for _, first := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", closed first", false: ", closed last"}[first], func(t *testing.T) {
				r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000})
				if beside {
					other, err := r.OpenPartialFrom(t.Context(), d, "another")
					if err != nil {
						t.Fatal(err)
					}
					defer closeIt(t, other)
				}
				old := r.openPartial(d)
				writeAt(t, old, body, ranges(0, 40_000)...)
				if err := old.Checkpoint(t.Context(), size, ranges(0, 40_000)); err != nil {
					t.Fatal(err)
				}
				told := 0
				old.OnPurge(func() { told++ })
				if freed, err := r.Purge(t.Context(), d); freed != 40_000 || err != nil || told != 1 {
					t.Errorf("Purge: %d, %v, told %d times", freed, err, told)
				}
				if old.OnPurge(func() { told++ }); told != 2 {
					t.Error("who asks late is not told")
				}
				next := r.openPartial(d)
				if n := len(next.Have()); n != 0 {
					t.Errorf("the next one begins with %d runs of bytes", n)
				}
				if _, err := r.OpenPartial(t.Context(), d); !errors.Is(err, storage.ErrBusy) {
					t.Errorf("a third: %v, want ErrBusy", err)
				}
				if err := old.Reserve(t.Context(), size); err != nil {
					t.Error(err)
				}
				writeAt(t, next, bytes.Repeat([]byte{1}, size), ranges(0, size)...)
				writeAt(t, old, body, ranges(40_000, size)...)
				got := make([]byte, size)
				if n, _ := old.ReadAt(got, 0); n != size || !bytes.Equal(got, body) {
					t.Errorf("who reads it has %d bytes, or others", n)
				}
				if u := r.Usage(); u.Partial != 2*size {
					t.Errorf("%d bytes are counted, want those of both", u.Partial)
				}
				if err := old.Promote(t.Context(), storage.KindBlob, size); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("Promote of what was purged: %v", err)
				}
				if err := old.Checkpoint(t.Context(), size, ranges(0, size)); err != nil {
					t.Error(err)
				}
				if first {
					closeIt(t, old)
				}
				if _, err := r.OpenPartial(t.Context(), d); !errors.Is(err, storage.ErrBusy) {
					t.Errorf("another beside the next: %v, want ErrBusy", err)
				}
				writeAt(t, next, body, ranges(0, size)...)
				if err := next.Promote(t.Context(), storage.KindBlob, size); err != nil {
					t.Errorf("Promote of the next: %v", err)
				}
				closeIt(t, next)
				if !first {
					closeIt(t, old)
				}
				r.wantServed("the next one", d)
				if err := r.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				r.wantUsage()
				r.wantNoGarbage()
			})
		}
	}
}

// TestPurgedPartialCrash kills the process while a purged partial is written: nothing
// of it is there afterwards.
func TestPurgedPartialCrash(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	body := kb("purged", 100)
	d := digest.FromBytes(body)
	p := r.openPartial(d)
	defer closeIt(t, p)
	writeAt(t, p, body, ranges(0, 50_000)...)
	if err := p.Checkpoint(t.Context(), 100_000, ranges(0, 50_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Purge(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	writeAt(t, p, body, ranges(50_000, 100_000)...)
	r = r.reopen(storage.Options{})
	r.wantNoGarbage()
	r.wantUsage()
	if n := r.onMedium(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestPurgedPartialStays can't remove the file of what is purged: it is not written on,
// since who comes next would find it by its name.
func TestPurgedPartialStays(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{})
	body := kb("purged", 100)
	d := digest.FromBytes(body)
	p := r.openPartial(d)
	p.OnPurge(func() { t.Error("it is said to be detached") })
	writeAt(t, p, body, ranges(0, 50_000)...)
	r.faults.Hook(func(s storagetest.Step) error {
		if s.Op == "remove" && strings.HasSuffix(s.Name, d.String()) {
			return syscall.EIO
		}
		return nil
	})
	if _, err := r.Purge(t.Context(), d); !errors.Is(err, syscall.EIO) {
		t.Errorf("Purge: %v", err)
	}
	r.faults.Hook(nil)
	if _, err := p.WriteAt(body[50_000:], 50_000); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("WriteAt: %v, want ErrNotFound", err)
	}
	if _, err := r.OpenPartial(t.Context(), d); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("OpenPartial: %v, want ErrBusy", err)
	}
	closeIt(t, p)
	next := r.openPartial(d)
	writeAt(t, next, body, ranges(0, 100_000)...)
	if err := next.Promote(t.Context(), storage.KindBlob, 100_000); err != nil {
		t.Error(err)
	}
	closeIt(t, next)
	r.wantServed("what came afterwards", d)
}
