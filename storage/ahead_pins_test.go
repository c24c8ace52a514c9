package storage_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// mostlyPinned is filled, where pins keep three quarters; n others are in it.
func mostlyPinned(t *testing.T, n int) *rig {
	t.Helper()
	r, _ := filled(t, 0, func(int32) {})
	for i := range 15 {
		r.pin(r.mustPut(kb(fmt.Sprint("stays", i), 100), storage.KindBlob, storage.Durable))
	}
	for i := range n {
		if err := r.putSmall(i); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// TestEvictAheadListens has a store find that it need not make room ahead, by what
// pins keep: it makes some when it must.
func TestEvictAheadListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mostlyPinned(t, 23) // 40,000 bytes are free: too few, were nothing pinned
		stop := r.running()
		defer stop()
		pass(time.Second)
		for i := range 2 {
			if err := r.putSmall(23 + i); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Second)
		if n := r.Usage().Total(); n > 1_980_000 {
			t.Errorf("%d bytes are stored, want some room", n)
		}
		r.wantUsage()
	})
}

// TestEvictAheadOfUnpinned unpins what kept a store from making more room ahead.
func TestEvictAheadOfUnpinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mostlyPinned(t, 23)
		stop := r.running()
		defer stop()
		pass(time.Second) // what pins keep is known
		for i := range 15 {
			if err := r.Unpin(t.Context(), digest.FromBytes(kb(fmt.Sprint("stays", i), 100)).Encoded()); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.putSmall(23); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if n := r.Usage().Total(); n > 1_900_000 {
			t.Errorf("%d bytes are stored, want a twentieth of the limit to be free", n)
		}
		r.wantUsage()
	})
}
