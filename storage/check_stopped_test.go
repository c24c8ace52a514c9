package storage_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestRepairStopped stops a repair of rows that can't be read at the first thing that
// it tells. The store that then runs short of room removes none of what they are of.
func TestRepairStopped(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	var ds []digest.Digest
	for i := range 3 {
		d := r.mustPut(kb(fmt.Sprint("pinned ", i), 100), storage.KindBlob, storage.Durable)
		r.pin(d)
		ds = append(ds, d)
	}
	r = r.spoil(storage.TableBlobs)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := 0
	_, _ = r.Check(ctx, storage.CheckOptions{Repair: true, Found: func(storage.Problem) { told++; stop() }}) // it may have been done
	if told == 0 {
		t.Fatal("the repair told nothing")
	}
	r = r.reopen(storage.Options{MaxBytes: 1_000_000})
	for i := range 12 {
		if _, err := r.put(kb(fmt.Sprint("after ", i), 100), storage.KindBlob, storage.Durable); err != nil {
			t.Errorf("put %d: %v", i, err)
		}
	}
	r.check(true)
	for _, d := range ds {
		r.wantServed("what is pinned", d)
	}
	r.wantUsage()
}

// TestRepairDropsRowsWithoutFile: of rows that can't be read a repair leaves none, where
// their files are gone, either, and it tells of all of them.
func TestRepairDropsRowsWithoutFile(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	here := r.mustPut(kb("here", 3), storage.KindBlob, storage.Durable)
	gone := r.mustPut(kb("gone", 3), storage.KindBlob, storage.Durable)
	r = r.spoil(storage.TableBlobs)
	if err := os.Remove(r.file(gone)); err != nil {
		t.Fatal(err)
	}
	named := map[digest.Digest]bool{}
	_, err := r.Check(t.Context(), storage.CheckOptions{Repair: true, Found: func(p storage.Problem) {
		if p.Kind == storage.ProblemRow {
			named[p.Digest] = p.Repaired
		}
	}})
	if err != nil || !named[here] || !named[gone] {
		t.Errorf("told %v, %v, want both rows as repaired", named, err)
	}
	if found, _ := r.check(true); len(found) > 0 {
		t.Errorf("after the repair there is still %q", found)
	}
	r.wantServed("what is here", here)
	r.wantAbsent("what is gone", gone)
}
