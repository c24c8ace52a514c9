package storage_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestRemovedThoughItFailed removes blobs where the rows say that they could not be
// written, and were all the same, or were not: the account is right in both cases,
// and there is room for others.
func TestRemovedThoughItFailed(t *testing.T) {
	var image digest.Digest
	pulled := func(r *rig) digest.Digest { return r.mustPut(kb("x", 600), storage.KindBlob, storage.Durable) }
	damaged := func(r *rig) digest.Digest {
		d := pulled(r)
		r.rot(d, 1)
		return d
	}
	for name, c := range map[string]struct {
		store  func(r *rig) digest.Digest
		remove func(r *rig, d digest.Digest) error
		before int // transactions that succeed before its row's
	}{
		"purged": {store: pulled, remove: func(r *rig, d digest.Digest) error { _, err := r.Purge(t.Context(), d); return err }},
		"purged by digest": {store: pulled, remove: func(r *rig, d digest.Digest) error {
			_, err := r.PurgeBlob(t.Context(), d, false)
			return err
		}},
		"purged with its image": {
			store: func(r *rig) digest.Digest {
				d := pulled(r)
				image = r.putManifest("image", []digest.Digest{d}, nil)
				return d
			},
			remove: func(r *rig, _ digest.Digest) error {
				_, err := r.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: image})
				return err
			},
		},
		"damaged, set aside": {store: damaged, remove: func(r *rig, d digest.Digest) error { _, err := r.SetAside(t.Context(), d); return err }},
		"damaged, dropped":   {store: damaged, remove: func(r *rig, d digest.Digest) error { return r.DropWrong(t.Context(), d) }},
		"pushed, damaged, put into quarantine": {
			store: func(r *rig) digest.Digest {
				d := r.push(gcOther, string(kb("x", 300)), nil)
				r.rot(d, 1)
				return d
			},
			remove: func(r *rig, d digest.Digest) error { return r.DropWrong(t.Context(), d) },
			before: 1,
		},
	} {
		for _, op := range []string{"update", "updated"} {
			t.Run(name+", "+op, func(t *testing.T) {
				dir := t.TempDir()
				faults := storagetest.NewFaults(dir)
				r := newRig(t, dir, faults, storage.Options{MaxBytes: 1_000_000})
				d := c.store(r)
				left := c.before
				faults.Hook(func(s storagetest.Step) error {
					if s.Op != op {
						return nil
					}
					if left--; left >= 0 {
						return nil
					}
					return syscall.EIO
				})
				if err := c.remove(r, d); !errors.Is(err, syscall.EIO) {
					t.Errorf("it ends with %v, want %v", err, syscall.EIO)
				}
				faults.Hook(nil)
				r.wantUsage()
				r.wantNoGarbage()
				if op == "updated" {
					r.wantAbsent("what was removed", d)
				} else if _, err := r.Stat(t.Context(), d); err != nil {
					t.Errorf("what was not removed: %v", err)
				}
				if err := c.remove(r, d); err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("once more: %v", err)
				}
				r.wantAbsent("what was removed", d)
				r.mustPut(kb("y", 600), storage.KindBlob, storage.Durable)
				r.wantUsage()
				r.wantNoGarbage()
			})
		}
	}
}
