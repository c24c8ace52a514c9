package storage_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestPiecesOfWhole has a blob come by another way than its partial: nothing is left
// of that, neither in this process nor for the next.
func TestPiecesOfWhole(t *testing.T) {
	body := kb("blob", 50)
	d := digest.FromBytes(body)
	filed := func(t *testing.T, r *rig) *storage.Partial {
		p, err := r.OpenPartialFrom(t.Context(), d, "a")
		if err != nil {
			t.Fatal(err)
		}
		writeAt(t, p, body, ranges(0, 40_000)...)
		if err := p.Checkpoint(t.Context(), 50_000, ranges(0, 40_000)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	beside := func(t *testing.T, r *rig) {
		p, err := r.OpenPartialFrom(t.Context(), d, "b")
		if err != nil {
			t.Fatal(err)
		}
		writeAt(t, p, body, ranges(0, 50_000)...)
		if err := p.Promote(t.Context(), storage.KindBlob, 50_000); err != nil {
			t.Error(err)
		}
		closeIt(t, p)
	}
	flush := func(t *testing.T, r *rig) {
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for name, come := range map[string]func(*testing.T, *rig){
		"another source sends it, and the first leaves": func(t *testing.T, r *rig) {
			p := filed(t, r)
			beside(t, r)
			closeIt(t, p)
		},
		"and leaves when the blob is filed": func(t *testing.T, r *rig) {
			p := filed(t, r)
			beside(t, r)
			flush(t, r)
			closeIt(t, p)
		},
		"and files once more": func(t *testing.T, r *rig) {
			p := filed(t, r)
			beside(t, r)
			if err := p.Checkpoint(t.Context(), 50_000, ranges(0, 40_000)); err != nil {
				t.Error(err)
			}
			closeIt(t, p)
		},
		"it is stored": func(t *testing.T, r *rig) {
			closeIt(t, filed(t, r))
			r.mustPut(body, storage.KindBlob, storage.Cached)
		},
		"it is pushed": func(t *testing.T, r *rig) {
			closeIt(t, filed(t, r))
			if err := waysToKeep()["push"](r, d, body); err != nil {
				t.Error(err)
			}
		},
		"it is put": func(t *testing.T, r *rig) {
			closeIt(t, filed(t, r))
			row := storage.BlobRow{Digest: d, Kind: storage.KindBlob}
			if err := r.Put(context.WithoutCancel(t.Context()), row, body, nil); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			come(t, r)
			if u := r.Usage(); u.Partial != 0 || u.Total() != 50_000 {
				t.Errorf("%d bytes of pieces are counted, %d in all", u.Partial, u.Total())
			}
			if found, report := r.check(true); len(found) > 0 || report.Leftovers > 0 {
				t.Errorf("a check finds %q, %+v", found, report)
			}
			flush(t, r)
			r.wantUsage()
			r.wantNoGarbage()
			if row, err := r.partialRow(d); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the row of its pieces: %+v, %v", row, err)
			}
			r.wantServed("the blob", d)
		})
	}
}

// TestPiecesOfWholeAreSwept has a crash, or an earlier program, leave such pieces.
func TestPiecesOfWholeAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		body := kb("blob", 50)
		d := digest.FromBytes(body)
		p := r.openPartial(d)
		writeAt(t, p, body, ranges(0, 40_000)...)
		if err := p.Checkpoint(t.Context(), 50_000, ranges(0, 40_000)); err != nil {
			t.Fatal(err)
		}
		r.mustPut(body, storage.KindBlob, storage.Durable) // and p is never closed
		r = r.reopen(storage.Options{})
		stop := r.running()
		defer stop()
		pass(2 * storage.SweepGrace)
		if u := r.Usage(); u.Partial != 0 || u.Total() != 50_000 {
			t.Errorf("%d bytes of pieces are counted, %d in all", u.Partial, u.Total())
		}
		r.wantUsage()
		r.wantNoGarbage()
		r.wantServed("the blob", d)
		closeIt(t, p)
	})
}
