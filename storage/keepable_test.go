package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// TestMayKeep asks how large a blob may become where 40 of 100 kB are stored, and has
// nothing evicted for it.
func TestMayKeep(t *testing.T) {
	const limit = 100_000
	for name, tt := range map[string]struct {
		o    storage.Options
		use  func(t *testing.T, r *rig)
		most int64 // 0: anything
	}{
		"cached":   {storage.Options{MaxBytes: limit}, putOf(storage.KindBlob), limit},
		"hosted":   {storage.Options{MaxBytes: limit}, putOf(storage.KindHosted), limit - 40_000},
		"no limit": {storage.Options{}, putOf(storage.KindHosted), 0},
		"promised": {storage.Options{MaxBytes: limit}, func(t *testing.T, r *rig) {
			p := r.openPartial(digest.FromString("another"))
			t.Cleanup(func() { closeIt(t, p) })
			if err := p.Reserve(t.Context(), 40_000); err != nil {
				t.Fatal(err)
			}
		}, limit - 40_000},
		"its own": {storage.Options{MaxBytes: limit}, func(t *testing.T, r *rig) {
			p := r.openPartial(digest.FromString("x"))
			t.Cleanup(func() { closeIt(t, p) })
			if err := p.Reserve(t.Context(), 40_000); err != nil {
				t.Fatal(err)
			}
		}, limit},
		"pinned, as a search found": {storage.Options{MaxBytes: limit}, func(t *testing.T, r *rig) {
			putOf(storage.KindBlob)(t, r)
			for i := range 4 {
				r.pin(digest.FromBytes(kb(fmt.Sprint(i), 10)))
			}
			w, err := r.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer closeIt(t, w)
			if err := w.Reserve(t.Context(), 70_000); !errors.Is(err, storage.ErrFull) {
				t.Errorf("room beside what is pinned: %v", err)
			}
		}, limit - 40_000},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, tt.o)
			tt.use(t, r)
			before := r.Usage().Total()
			d := digest.FromString("x")
			if most := max(tt.most, 1); !r.MayKeep(t.Context(), d, most) {
				t.Errorf("%d bytes may not be kept", most)
			}
			if got := r.MayKeep(t.Context(), d, tt.most+1<<40); got != (tt.most == 0) {
				t.Errorf("a terabyte more: %v", got)
			}
			if tt.most > 0 && r.MayKeep(t.Context(), d, tt.most+1) {
				t.Errorf("%d bytes may be kept", tt.most+1)
			}
			if got := r.Usage().Total(); got != before {
				t.Errorf("%d bytes are stored, %d before", got, before)
			}
		})
	}
}

func putOf(kind storage.Kind) func(t *testing.T, r *rig) {
	return func(_ *testing.T, r *rig) {
		for i := range 4 {
			r.mustPut(kb(fmt.Sprint(i), 10), kind, storage.Durable)
		}
	}
}

// TestMayKeepLeavesFree is MayKeep of a store with a floor of free space.
func TestMayKeepLeavesFree(t *testing.T) {
	const mb = 1 << 20
	dir := t.TempDir()
	blobs, err := disk.NewFS(dir, &meter{total: 3 * mb})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MinFree: mb})
	d := digest.FromString("x")
	if !r.MayKeep(t.Context(), d, mb) {
		t.Error("a megabyte may not be kept where there is room for two")
	}
	if r.MayKeep(t.Context(), d, 3*mb) {
		t.Error("three megabytes may be kept where there is room for two")
	}
}
