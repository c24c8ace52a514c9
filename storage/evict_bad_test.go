package storage_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// removing is Blobs that tell what is about to be removed.
type removing struct {
	storage.Blobs
	before func(digest.Digest)
}

func (b *removing) Remove(ctx context.Context, d digest.Digest) error {
	if b.before != nil {
		b.before(d)
	}
	return b.Blobs.Remove(ctx, d)
}

// TestBadMakesRoom fills a store with what a check, which repairs nothing, then finds
// to be damaged: it makes room as anything else that is cached, also where nobody asks
// for it, and is not served while it goes. What was pushed stays for the repair.
func TestBadMakesRoom(t *testing.T) {
	dir := t.TempDir()
	under, err := disk.NewFS(dir, storagetest.NoSync{})
	if err != nil {
		t.Fatal(err)
	}
	blobs := &removing{Blobs: under}
	r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MaxBytes: 1_000_000})
	hosted := r.push(gcOther, string(kb("pushed", 50)), nil)
	bad := map[digest.Digest]bool{}
	body := func(i int) []byte { return kb(fmt.Sprint("pulled ", i), 100) }
	for i := range 9 {
		bad[r.mustPut(body(i), storage.KindBlob, storage.Durable)] = true
	}
	for d := range bad {
		r.rot(d, 7)
	}
	r.rot(hosted, 7)
	if found, _ := r.check(false); len(found) != 10 {
		t.Errorf("the check found %v, want 10 that are damaged", found)
	}
	gone := 0
	blobs.before = func(d digest.Digest) {
		if gone++; bad[d] && !r.Bad(d) {
			t.Errorf("%s can be read again before it is removed", d)
		}
	}
	for i := range 4 {
		r.wantServed("what comes after them", r.mustPut(kb(fmt.Sprint("after ", i), 200), storage.KindBlob, storage.Durable))
	}
	if gone < 7 {
		t.Errorf("%d were evicted, want most", gone)
	}
	r.wantUsage()
	r.wantNoGarbage()
	if _, err := r.row(hosted); err != nil || !r.Bad(hosted) {
		t.Errorf("the row of what was pushed: %v; served: %t", err, !r.Bad(hosted))
	}
	blobs.before = nil
	for i := range 2 {
		r.wantServed("one that comes again", r.mustPut(body(i), storage.KindBlob, storage.Durable))
	}
	r.wantUsage()
}

// TestBadIsNotReadWhileItGoes has others than an eviction remove it.
func TestBadIsNotReadWhileItGoes(t *testing.T) {
	dir := t.TempDir()
	under, err := disk.NewFS(dir, storagetest.NoSync{})
	if err != nil {
		t.Fatal(err)
	}
	blobs := &removing{Blobs: under}
	r := newRig(t, dir, nil, storage.Options{Blobs: blobs})
	d := r.mustPut(kb("x", 100), storage.KindBlob, storage.Durable)
	r.rot(d, 7)
	r.check(false)
	removed := false
	blobs.before = func(digest.Digest) {
		if removed = true; !r.Bad(d) {
			t.Error("it can be read again before it is removed")
		}
	}
	if _, err := r.Purge(t.Context(), d); err != nil || !removed {
		t.Errorf("Purge: %v; removed: %t", err, removed)
	}
	if r.Bad(d) {
		t.Error("what comes next under its name is not served")
	}
}
