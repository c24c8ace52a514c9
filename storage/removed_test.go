package storage_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestRemovedWhileRead removes a blob in each way while it is read: its reader goes
// on, and as long as that lasts its bytes take room, which nobody else is promised.
func TestRemovedWhileRead(t *testing.T) {
	const limit, size = 1_000_000, 600_000
	repo := oci.Repo{Upstream: "up", Name: "a"}
	for name, remove := range map[string]func(*testing.T, *rig, digest.Digest) error{
		"purged": func(t *testing.T, r *rig, d digest.Digest) error {
			freed, err := r.Purge(t.Context(), d)
			if freed != size {
				t.Errorf("purge says that %d bytes go", freed)
			}
			return err
		},
		"purged with its image": func(t *testing.T, r *rig, d digest.Digest) error {
			image := r.putManifest("image", []digest.Digest{d}, nil)
			err := r.Update(t.Context(), func(tx storage.Tx) error {
				return errors.Join(tx.PutRight(repo, image), tx.PutRight(repo, d), tx.PutTag(storage.TagRow{Repo: repo, Tag: "v1", Digest: image}))
			})
			if err != nil {
				return err
			}
			_, err = r.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repo, Root: image})
			return err
		},
		"not needed": func(t *testing.T, r *rig, d digest.Digest) error {
			_, err := r.PurgeUnneeded(t.Context(), d, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: limit})
			d := r.mustPut(kb("read", size/1000), storage.KindBlob, storage.Durable)
			b, err := r.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if err := remove(t, r, d); err != nil {
				t.Fatal(err)
			}
			r.wantAbsent("what was removed", d)
			r.wantRemoved(size)
			w, err := r.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Reserve(t.Context(), size); !errors.Is(err, storage.ErrFull) {
				t.Errorf("Reserve while it is read: %v, want ErrFull", err)
			}
			got := make([]byte, size)
			if _, err := b.ReadAt(got, 0); err != nil || digest.FromBytes(got) != d {
				t.Errorf("its reader: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			r.wantRemoved(0)
			if err := w.Reserve(t.Context(), size); err != nil {
				t.Errorf("Reserve when it is closed: %v", err)
			}
			closeIt(t, w)
			r.wantUsage()
		})
	}
}

// TestRemovedAndBack has a blob come anew while somebody reads what was purged: the
// one file counts as a blob, the other until it is closed.
func TestRemovedAndBack(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	body := kb("read", 100)
	d := r.mustPut(body, storage.KindBlob, storage.Durable)
	first, err := r.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Purge(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	r.mustPut(body, storage.KindBlob, storage.Durable)
	second, err := r.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	r.wantRemoved(100_000)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	r.wantRemoved(100_000)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	r.wantRemoved(0)
	r.wantUsage()
}

// TestEvictedWhileOpened opens a blob in the last moment in which it can be had,
// while it is evicted.
func TestEvictedWhileOpened(t *testing.T) {
	var r *rig
	var b storage.Blob
	r = newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Evicted: func(_ storage.Tx, row storage.BlobRow) (err error) {
		b, err = r.OpenRow(t.Context(), row)
		return err
	}})
	body := kb("old", 600)
	d := r.mustPut(body, storage.KindBlob, storage.Durable)
	if _, err := r.put(kb("new", 600), storage.KindBlob, storage.Durable); !errors.Is(err, storage.ErrFull) {
		t.Errorf("put while it is read: %v, want ErrFull", err)
	}
	r.wantRemoved(600_000)
	got := make([]byte, len(body))
	if _, err := b.ReadAt(got, 0); err != nil || digest.FromBytes(got) != d {
		t.Errorf("its reader: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	r.wantRemoved(0)
	r.mustPut(kb("new", 600), storage.KindBlob, storage.Durable)
	r.wantUsage()
}

func (r *rig) wantRemoved(bytes int64) {
	r.t.Helper()
	u := r.Usage()
	if u.Removed != bytes {
		r.t.Errorf("%d bytes are counted as removed and read, want %d", u.Removed, bytes)
	}
}

// TestQuarantineCounts puts wrong bytes aside, again and again: they count, like all
// that the store keeps, until a person removes them.
func TestQuarantineCounts(t *testing.T) {
	const limit = 1_000_000
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: limit})
	for _, name := range []string{"a", "b"} {
		r.rot(r.mustPut(kb(name, 400), storage.KindBlob, storage.Durable), 5)
		if found, _ := r.check(true); len(found) != 1 {
			t.Fatalf("found %q", found)
		}
	}
	if u := r.Usage(); u.Quarantined != 800_000 || u.Total() != 800_000 {
		t.Errorf("%d bytes are counted in quarantine, %d in all", u.Quarantined, u.Total())
	}
	if _, err := r.put(kb("c", 400), storage.KindBlob, storage.Durable); !errors.Is(err, storage.ErrFull) {
		t.Errorf("put beside them: %v, want ErrFull", err)
	}
	r = r.reopen(storage.Options{MaxBytes: limit})
	if _, err := r.put(kb("c", 400), storage.KindBlob, storage.Durable); !errors.Is(err, storage.ErrFull) {
		t.Errorf("put beside them, in the next process: %v, want ErrFull", err)
	}
	if err := os.RemoveAll(filepath.Join(r.dir, "quarantine")); err != nil {
		t.Fatal(err)
	}
	r.rot(r.mustPut(kb("d", 100), storage.KindBlob, storage.Durable), 5)
	r.check(true)
	if u := r.Usage(); u.Quarantined != 100_000 {
		t.Errorf("%d bytes are counted in quarantine, once it was emptied", u.Quarantined)
	}
	r.mustPut(kb("c", 400), storage.KindBlob, storage.Durable)
	r.wantUsage()
}

// blind is a file system that can't list what is in quarantine, as long as it fails.
type blind struct {
	storagetest.NoSync
	fails atomic.Bool
}

func (f *blind) ReadDir(name string) ([]fs.DirEntry, error) {
	if f.fails.Load() && filepath.Base(name) == "quarantine" {
		return nil, syscall.EIO
	}
	return f.NoSync.ReadDir(name)
}

// TestQuarantineUnread can't look at what is in quarantine for a while: as much as
// before counts.
func TestQuarantineUnread(t *testing.T) {
	dir, medium := t.TempDir(), &blind{}
	blobs, err := disk.NewFS(dir, medium)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, dir, nil, storage.Options{Blobs: blobs})
	for i, want := range []int64{400_000, 400_000, 1_200_000} {
		medium.fails.Store(i == 1)
		r.rot(r.mustPut(kb(fmt.Sprint(i), 400), storage.KindBlob, storage.Durable), 5)
		r.check(true)
		if got := r.Usage().Quarantined; got != want {
			t.Errorf("%d bytes are counted in quarantine, want %d", got, want)
		}
	}
}
