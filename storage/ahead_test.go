package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// removals is a file system that calls before each removal of a blob.
type removals struct {
	storagetest.NoSync
	n      atomic.Int32
	before func(n int32)
}

func (f *removals) Remove(name string) error {
	_, err := os.Stat(name) // a blob that comes removes what may be there without a row
	if err == nil && strings.Contains(name, string(filepath.Separator)+"blobs"+string(filepath.Separator)) {
		f.before(f.n.Add(1))
	}
	return f.NoSync.Remove(name)
}

// filled is a store of a hundred blobs at most, of which it has n, of 20,000 bytes
// each.
func filled(t *testing.T, n int, before func(n int32)) (*rig, *removals) {
	t.Helper()
	dir, fsys := t.TempDir(), &removals{before: before}
	blobs, err := disk.NewFS(dir, fsys)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MaxBytes: 2_000_000})
	for i := range n {
		if err := r.putSmall(i); err != nil {
			t.Fatal(err)
		}
	}
	return r, fsys
}

// putSmall asks for no more room than it takes.
func (r *rig) putSmall(i int) error {
	body := kb(fmt.Sprint("small", i), 20)
	row := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindBlob}
	return r.Put(r.t.Context(), row, body, nil)
}

// TestEvictWhatIsNeeded has a write find no room: it waits for no more than goes
// for it.
func TestEvictWhatIsNeeded(t *testing.T) {
	r, fsys := filled(t, 100, func(int32) {})
	if err := r.putSmall(100); err != nil {
		t.Fatal(err)
	}
	if n := fsys.n.Load(); n != 1 {
		t.Errorf("%d blobs went before the write was done, want 1", n)
	}
	r.wantUsage()
}

// TestEvictAhead has a store come near its limit: some goes before anybody needs
// the room.
func TestEvictAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fsys := filled(t, 97, func(int32) {})
		stop := r.running()
		defer stop()
		pass(time.Second)
		if n := fsys.n.Load(); n != 0 {
			t.Errorf("%d blobs went from a store that is not near its limit", n)
		}
		if err := r.putSmall(97); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if n := r.Usage().Total(); n > 1_900_000 || n < 1_800_000 {
			t.Errorf("%d bytes are stored, want 95 %% of the limit, or a little less", n)
		}
		r.wantUsage()
	})
}

// TestEvictAheadOfLittle has a store in which what may not go leaves little room: not
// all of that is kept free.
func TestEvictAheadOfLittle(t *testing.T) {
	for name, o := range map[string]storage.Options{"a limit": {MaxBytes: 2_000_000}, "a floor": {MinFree: 4_000_000}} {
		for kind, keep := range map[storage.Kind]func(*rig, digest.Digest){
			storage.KindHosted: func(*rig, digest.Digest) {},
			storage.KindBlob:   (*rig).pin,
		} {
			t.Run(name+", and what stays is a "+string(kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir()
					blobs, err := disk.NewFS(dir, &meter{total: 6_000_000})
					if err != nil {
						t.Fatal(err)
					}
					o.Blobs = blobs
					r := newRig(t, dir, nil, o)
					for i := range 15 {
						keep(r, r.mustPut(kb(fmt.Sprint("stays", i), 100), kind, storage.Durable))
					}
					others := func() int64 { return (r.Usage().Total() - 1_500_000) / 20_000 }
					stop := r.running()
					defer stop()
					for i := range 50 {
						if err := r.putSmall(i); err != nil {
							t.Fatal(err)
						}
						pass(time.Second)
						if n := others(); n < min(int64(i), 22) { // and a twentieth of all were five
							t.Fatalf("%d blobs are left of %d for which there is room", n, 25)
						}
					}
					r.wantUsage()
				})
			})
		}
	}
}

// TestEvictAheadOfMinFree is TestEvictAhead where another program fills the medium.
func TestEvictAheadOfMinFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		medium := &meter{total: 10_000_000}
		dir := t.TempDir()
		blobs, err := disk.NewFS(dir, medium)
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MinFree: 1_500_000})
		for i := range 100 {
			if err := r.putSmall(i); err != nil {
				t.Fatal(err)
			}
		}
		stop := r.running()
		defer stop()
		medium.others.Store(6_470_000) // 30,000 bytes are left: a fiftieth of what is to be free
		if err := r.putSmall(100); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if free, _, _ := medium.Free(""); free < 1_575_000 || free > 1_675_000 {
			t.Errorf("%d bytes are free, want a twentieth more than the floor, or a little more", free)
		}
		r.wantUsage()
	})
}

// TestEvictAheadIsNotWaitedFor has a write find no room while some is made ahead:
// it goes on when there is enough for it.
func TestEvictAheadIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, others := make(chan struct{}), make(chan struct{})
		r, fsys := filled(t, 100, func(n int32) {
			if n == 1 {
				<-first
			} else {
				<-others
			}
		})
		stop := r.running() // and evicts: it is full
		defer stop()
		if n := fsys.n.Load(); n != 1 {
			t.Errorf("%d removals were begun, want 1", n)
		}
		done := make(chan error, 1)
		go func() { done <- r.putSmall(100) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("the write was done in a full store: %v", err)
		default:
		}
		close(first)
		synctest.Wait()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the write waits for more than its own room")
		}
		close(others)
		synctest.Wait()
		if n := r.Usage().Total(); n > 1_900_000+20_000 {
			t.Errorf("%d bytes are stored", n)
		}
	})
}
