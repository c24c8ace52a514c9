package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestCheckTellsLeftovers leaves everything that a crash may: a check names it and
// counts none of it as a problem, and a repair leaves a store of which there is
// nothing to say.
func TestCheckTellsLeftovers(t *testing.T) {
	unfiled, garbage := digest.FromBytes(kb("unfiled", 30)), digest.FromBytes(kb("garbage", 20))
	part, promoted := digest.FromBytes(kb("part", 20)), digest.FromBytes(kb("promoted", 10))
	leave := func(t *testing.T) *rig {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		r.mustPut(kb("kept", 10), storage.KindBlob, storage.Durable)
		for _, d := range []digest.Digest{part, promoted} {
			p := r.openPartial(d)
			writeAt(t, p, kb("part", 20), ranges(0, 5000)...)
			if err := p.Checkpoint(t.Context(), -1, ranges(0, 5000)); err != nil {
				t.Fatal(err)
			}
			closeIt(t, p)
		}
		err := r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeletePartial(part) })
		err = errors.Join(err, os.Remove(filepath.Join(r.dir, "partial", promoted.String())), // it has its name as a blob
			os.WriteFile(filepath.Join(r.dir, "partial", "upload-gone"), kb("upload", 9), 0o600))
		r.mustPut(kb("unfiled", 30), storage.KindBlob, storage.Cached)
		r.mustPut(kb("garbage", 20), storage.KindBlob, storage.Cached)
		if err != nil {
			t.Fatal(err)
		}
		r.rot(garbage, 7) // its bytes were never synced
		return r.reopen(storage.Options{})
	}
	want := []string{
		"garbage " + garbage.String(), "leftover ", "leftover " + part.String(),
		"partial " + promoted.String(), "unfiled " + unfiled.String(),
	}
	slices.Sort(want)
	for _, repair := range []bool{false, true} {
		t.Run(fmt.Sprint("repair ", repair), func(t *testing.T) {
			r := leave(t)
			found, report := r.check(repair)
			if !slices.Equal(found, want) || report.Problems != 0 || report.Leftovers != int64(len(want)) {
				t.Errorf("found %q, %+v, want %q and no problem", found, report, want)
			}
			if !repair {
				return
			}
			if found, _ := r.check(false); len(found) > 0 {
				t.Errorf("after the repair there is still %q", found)
			}
			r.wantServed("what had no row", unfiled)
			r.wantUsage()
		})
	}
}

// TestCheckOfHostedIsNoLeftover loses the row of what was pushed: no crash does.
func TestCheckOfHostedIsNoLeftover(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	right, wrong := r.push(gcApp, "a layer", nil), r.push(gcApp, "another", nil)
	if err := r.Update(t.Context(), func(tx storage.Tx) error { return errors.Join(tx.DeleteBlob(right), tx.DeleteBlob(wrong)) }); err != nil {
		t.Fatal(err)
	}
	r.rot(wrong, 1)
	r = r.reopen(storage.Options{})
	if found, report := r.check(false); report.Problems != 2 || report.Leftovers != 0 {
		t.Errorf("found %q, %+v, want 2 problems", found, report)
	}
}
