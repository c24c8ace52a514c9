package storage_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// filedPieces is most of a blob, as source a has sent it.
func (r *rig) filedPieces(d digest.Digest, body []byte) *storage.Partial {
	r.t.Helper()
	p, err := r.OpenPartialFrom(r.t.Context(), d, "a")
	if err != nil {
		r.t.Fatal(err)
	}
	writeAt(r.t, p, body, ranges(0, 40_000)...)
	if err := p.Checkpoint(r.t.Context(), 50_000, ranges(0, 40_000)); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// sentBeside has source b send all of it.
func (r *rig) sentBeside(d digest.Digest, body []byte) {
	r.t.Helper()
	p, err := r.OpenPartialFrom(r.t.Context(), d, "b")
	if err != nil {
		r.t.Fatal(err)
	}
	writeAt(r.t, p, body, ranges(0, 50_000)...)
	if err := p.Promote(r.t.Context(), storage.KindBlob, 50_000); err != nil {
		r.t.Error(err)
	}
	closeIt(r.t, p)
}

// waysToBeWhole are all in which a blob comes beside its pieces.
func waysToBeWhole() map[string]func(*rig, digest.Digest, []byte) error {
	return map[string]func(*rig, digest.Digest, []byte) error{
		"another source sends it, and the first leaves": func(r *rig, d digest.Digest, body []byte) error {
			p := r.filedPieces(d, body)
			r.sentBeside(d, body)
			return p.Close()
		},
		"and leaves when the blob is filed": func(r *rig, d digest.Digest, body []byte) error {
			p := r.filedPieces(d, body)
			r.sentBeside(d, body)
			return errors.Join(r.Flush(r.t.Context()), p.Close())
		},
		"and files once more": func(r *rig, d digest.Digest, body []byte) error {
			p := r.filedPieces(d, body)
			r.sentBeside(d, body)
			return errors.Join(p.Checkpoint(r.t.Context(), 50_000, ranges(0, 40_000)), p.Close())
		},
		"it is stored": func(r *rig, d digest.Digest, body []byte) error {
			closeIt(r.t, r.filedPieces(d, body))
			_, err := r.put(body, storage.KindBlob, storage.Cached)
			return err
		},
		"it is pushed": func(r *rig, d digest.Digest, body []byte) error {
			closeIt(r.t, r.filedPieces(d, body))
			return waysToKeep()["push"](r, d, body)
		},
		"it is put": func(r *rig, d digest.Digest, body []byte) error {
			closeIt(r.t, r.filedPieces(d, body))
			return r.Put(r.t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindBlob}, body, nil)
		},
	}
}

// TestPiecesOfWhole has a blob come by another way than its partial: nothing is left
// of that, neither in this process nor for the next.
func TestPiecesOfWhole(t *testing.T) {
	body := kb("blob", 50)
	d := digest.FromBytes(body)
	for name, come := range waysToBeWhole() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			if err := come(r, d, body); err != nil {
				t.Error(err)
			}
			if u := r.Usage(); u.Partial != 0 || u.Total() != 50_000 {
				t.Errorf("%d bytes of pieces are counted, %d in all", u.Partial, u.Total())
			}
			if found, report := r.check(true); len(found) > 0 || report.Leftovers > 0 {
				t.Errorf("a check finds %q, %+v", found, report)
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Error(err)
			}
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
