package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// onMedium is how much the files of blobs and partials have.
func (r *rig) onMedium() (n int64) {
	r.t.Helper()
	for _, folder := range []string{"blobs", "partial", "tmp"} {
		err := filepath.WalkDir(filepath.Join(r.dir, folder), func(_ string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			st, err := e.Info()
			if err == nil {
				n += st.Size()
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	return n
}

// wantCounted checks the account against the medium, and both against the limit.
func (r *rig) wantCounted(when string, limit int64) {
	r.t.Helper()
	n, counted := r.onMedium(), r.Usage().Total()
	if n != counted || n > limit {
		r.t.Errorf("%s: %d bytes on the medium, %d counted, the limit is %d", when, n, counted, limit)
	}
}

// leaving are a blob and a partial of 400,000 bytes each, of which the file is to
// go and can't be removed as long as the medium fails.
func leaving() map[string]func(*rig) digest.Digest {
	body := kb("left", 400)
	return map[string]func(*rig) digest.Digest{
		"blob": func(r *rig) digest.Digest { return r.mustPut(body, storage.KindBlob, storage.Durable) },
		"partial": func(r *rig) digest.Digest {
			d := digest.FromBytes(body)
			p := r.openPartial(d)
			defer closeIt(r.t, p)
			if _, err := p.WriteAt(body, 0); err != nil {
				r.t.Fatal(err)
			}
			if err := p.Checkpoint(r.t.Context(), 500_000, ranges(0, 400_000)); err != nil {
				r.t.Fatal(err)
			}
			return d
		},
	}
}

// failing is a store of a million bytes that can't remove what leave made of it.
func failing(t *testing.T, leave func(*rig) digest.Digest) (*rig, digest.Digest) {
	t.Helper()
	dir := t.TempDir()
	r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{MaxBytes: 1_000_000})
	d := leave(r)
	r.faults.Hook(func(s storagetest.Step) error {
		if s.Op == "remove" && strings.HasSuffix(s.Name, d.Encoded()) {
			return syscall.EIO
		}
		return nil
	})
	return r, d
}

// TestLeftBehindIsCounted has the file of what was evicted not be removed: it counts
// on, others make room, and it goes when it can.
func TestLeftBehindIsCounted(t *testing.T) {
	for name, leave := range leaving() {
		t.Run(name, func(t *testing.T) {
			r, d := failing(t, leave)
			second := r.mustPut(kb("second", 400), storage.KindBlob, storage.Durable)
			if _, err := r.put(kb("third", 400), storage.KindBlob, storage.Durable); err != nil {
				t.Errorf("put: %v, though there is something else to go", err)
			}
			r.wantCounted("with a file that can't be removed", 1_000_000)
			r.wantAbsent("what was evicted", d)
			fourth := r.mustPut(kb("fourth", 400), storage.KindBlob, storage.Durable)
			r.wantCounted("with a file that still can't be removed", 1_000_000)
			r.wantAbsent("what made room", second)
			if n := r.Usage().Stray; n != 400_000 {
				t.Errorf("%d bytes count as strays", n)
			}
			r.faults.Hook(nil)
			r.mustPut(kb("fifth", 400), storage.KindBlob, storage.Durable)
			r.wantServed("what there was room for when the file went", fourth)
			r.wantCounted("with the file removed", 1_000_000)
			r.wantUsage()
			r.wantNoGarbage()
		})
	}
}

// TestLeftBehindGoes has what could not be removed when it was purged go by itself.
func TestLeftBehindGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := failing(t, leaving()["blob"])
		stop := r.running()
		defer stop()
		if _, err := r.Purge(t.Context(), d); !errors.Is(err, syscall.EIO) {
			t.Errorf("Purge: %v, want %v", err, syscall.EIO)
		}
		pass(3 * storage.SweepGrace)
		r.wantCounted("with a file that can't be removed", 1_000_000)
		if n := r.onMedium(); n != 400_000 {
			t.Errorf("%d bytes on the medium", n)
		}
		r.faults.Hook(nil)
		pass(2 * storage.SweepGrace)
		r.wantCounted("with the file removed", 0)
		r.wantNoGarbage()
	})
}
