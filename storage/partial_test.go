package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

func writeAt(t *testing.T, p *storage.Partial, body []byte, rs ...oci.Range) {
	t.Helper()
	for _, r := range rs {
		if n, err := p.WriteAt(body[r.Off:r.End], r.Off); n != int(r.Len()) || err != nil {
			t.Fatalf("WriteAt %v: %d, %v", r, n, err)
		}
	}
}

func closeIt(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestPartialResumes(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{Now: atNoon})
	body := storagetest.Bytes("x", 10000)
	d := digest.FromBytes(body)
	p := r.openPartial(d)
	if p.Size() != -1 || len(p.Have()) != 0 {
		t.Errorf("a new partial has %v of %d", p.Have(), p.Size())
	}
	writeAt(t, p, body, ranges(2000, 4000, 0, 1000, 500, 1000)...)
	if got := r.Usage().Partial; got != 3000 {
		t.Errorf("account of partials: %d bytes, want 3000", got)
	}
	if err := p.Checkpoint(t.Context(), 10000, ranges(0, 1000, 2000, 4000)); err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
	writeAt(t, p, body, ranges(8000, 9000)...) // not filed: lost with the process
	r.wantAbsent("a partial", d)
	closeIt(t, p)
	if got := r.Usage().Partial; got != 4000 {
		t.Errorf("account of partials: %d bytes, want all 4000 that its file has", got)
	}

	r = r.reopen(storage.Options{})
	p = r.openPartial(d)
	if diff := cmp.Diff(ranges(0, 1000, 2000, 4000), p.Have()); diff != "" || p.Size() != 10000 {
		t.Errorf("the partial has size %d and (-want +got):\n%s", p.Size(), diff)
	}
	got := make([]byte, 2000)
	if n, err := p.ReadAt(got, 2000); n != 2000 || !bytes.Equal(got, body[2000:4000]) {
		t.Errorf("ReadAt: %d, %v, or other bytes", n, err)
	}
	writeAt(t, p, body, ranges(1000, 2000, 4000, 10000)...)
	if got := r.Usage().Partial; got != 10000 {
		t.Errorf("account of partials: %d bytes, want 10000", got)
	}
	if err := p.Promote(t.Context(), storage.KindBlob, 10000); err != nil {
		t.Fatalf("Promote: %v", err)
	}
	r.wantServed("a promoted blob", d)
	if n, err := p.ReadAt(got, 2000); n != 2000 || !bytes.Equal(got, body[2000:4000]) {
		t.Errorf("ReadAt after Promote: %d, %v, or other bytes", n, err)
	}
	if f := p.File(); f == nil {
		t.Error("the partial has no file")
	}
	if err := p.Checkpoint(t.Context(), 10000, ranges(0, 10000)); err != nil {
		t.Errorf("a late Checkpoint: %v", err)
	}
	closeIt(t, p)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	if _, err := r.partialRow(d); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("row of a promoted partial: %v, want ErrNotFound", err)
	}
	r.wantUsage()
	r.wantNoGarbage()
	r.reopen(storage.Options{}).wantServed("a promoted blob after a restart", d)
}

func TestPartialBusy(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	d := digest.FromString("x")
	p := r.openPartial(d)
	if second, err := r.OpenPartial(t.Context(), d); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("a second OpenPartial: %v, %v, want ErrBusy", second, err)
	}
	closeIt(t, p)
	closeIt(t, r.openPartial(d))
	r.wantNoGarbage() // nothing was filed
}

// TestPartialEnds has everything fail that comes after the end of a partial, but what
// is written for those who read one that was purged.
func TestPartialEnds(t *testing.T) {
	body := storagetest.Bytes("x", 1000)
	d := digest.FromBytes(body)
	for _, c := range []struct {
		name string
		end  func(*rig, *storage.Partial) error
		want error
	}{
		{"promoted", func(r *rig, p *storage.Partial) error { return p.Promote(r.t.Context(), storage.KindBlob, 1000) }, os.ErrClosed},
		{"discarded", func(r *rig, p *storage.Partial) error { return p.Discard(r.t.Context()) }, storage.ErrNotFound},
		{"purged", func(r *rig, p *storage.Partial) error {
			freed, err := r.Purge(r.t.Context(), d)
			if freed != 1000 {
				return fmt.Errorf("freed %d bytes, want 1000: %w", freed, err)
			}
			return err
		}, storage.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			p := r.openPartial(d)
			writeAt(t, p, body, ranges(0, 1000)...)
			if err := p.Checkpoint(t.Context(), 1000, ranges(0, 1000)); err != nil {
				t.Fatalf("Checkpoint: %v", err)
			}
			if err := c.end(r, p); err != nil {
				t.Fatalf("end: %v", err)
			}
			if _, err := p.WriteAt(body, 0); c.name == "purged" && err != nil || c.name != "purged" && !errors.Is(err, c.want) {
				t.Errorf("WriteAt: %v, want %v", err, c.want)
			}
			if err := p.Promote(t.Context(), storage.KindBlob, 1000); !errors.Is(err, c.want) {
				t.Errorf("Promote: %v, want %v", err, c.want)
			}
			if err := p.Checkpoint(t.Context(), 1000, ranges(0, 1000)); err != nil {
				t.Errorf("Checkpoint: %v", err)
			}
			if err := p.Discard(t.Context()); err != nil {
				t.Errorf("Discard: %v", err)
			}
			got := make([]byte, 1000)
			if n, _ := p.ReadAt(got, 0); n != 1000 || !bytes.Equal(got, body) {
				t.Errorf("ReadAt: %d bytes, or others", n)
			}
			closeIt(t, p)
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			if c.name == "promoted" {
				r.wantServed("a promoted blob", d)
			} else {
				r.wantAbsent("an ended partial", d)
			}
			if _, err := r.partialRow(d); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("row of an ended partial: %v, want ErrNotFound", err)
			}
			r.wantUsage()
			r.wantNoGarbage()
		})
	}
}

// TestPartialOfBlob promotes what came whole by another way meanwhile.
func TestPartialOfBlob(t *testing.T) {
	for _, dur := range []storage.Durability{storage.Cached, storage.Durable} {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		body := storagetest.Bytes("x", 1000)
		d := digest.FromBytes(body)
		p := r.openPartial(d)
		writeAt(t, p, body, ranges(0, 1000)...)
		if err := p.Checkpoint(t.Context(), 1000, ranges(0, 1000)); err != nil {
			t.Fatalf("Checkpoint: %v", err)
		}
		r.mustPut(body, storage.KindSpan, dur)
		if err := p.Promote(t.Context(), storage.KindBlob, 1000); err != nil {
			t.Errorf("Promote: %v", err)
		}
		closeIt(t, p)
		if err := r.Flush(t.Context()); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if row, err := r.row(d); err != nil || row.Kind != storage.KindBlob {
			t.Errorf("row: %+v, %v, want a blob", row, err)
		}
		r.wantServed("what came twice", d)
		r.wantUsage()
		r.wantNoGarbage()
	}
}

// TestPartialFileGone has rows of partials whose file does not reach as far.
func TestPartialFileGone(t *testing.T) {
	body := storagetest.Bytes("x", 1000)
	d := digest.FromBytes(body)
	for name, damage := range map[string]func(string) error{
		"gone": os.Remove,
		"cut":  func(file string) error { return os.Truncate(file, 999) },
	} {
		for _, sweep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, swept %t", name, sweep), func(t *testing.T) {
				r := newRig(t, t.TempDir(), nil, storage.Options{})
				p := r.openPartial(d)
				writeAt(t, p, body, ranges(0, 1000)...)
				if err := p.Checkpoint(t.Context(), 2000, ranges(0, 1000)); err != nil {
					t.Fatalf("Checkpoint: %v", err)
				}
				closeIt(t, p)
				if err := damage(filepath.Join(r.dir, "partial", d.String())); err != nil {
					t.Fatal(err)
				}
				r = r.reopen(storage.Options{})
				if sweep {
					if err := r.Sweep(t.Context()); err != nil {
						t.Errorf("Sweep: %v", err)
					}
					r.wantNoGarbage()
				}
				p = r.openPartial(d)
				if len(p.Have()) != 0 {
					t.Errorf("the partial has %v, which is not there", p.Have())
				}
				closeIt(t, p)
				r.wantUsage()
				r.wantNoGarbage()
			})
		}
	}
}

func TestSweepKeepsWhatIsInUse(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	cached := r.mustPut(storagetest.Bytes("cached", 1000), storage.KindBlob, storage.Cached)
	body := storagetest.Bytes("x", 1000)
	d := digest.FromBytes(body)
	p := r.openPartial(d) // no row yet
	writeAt(t, p, body, ranges(0, 1000)...)
	upload, err := r.disk.OpenPartial(t.Context(), "an-upload") // not the Store's
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	closeIt(t, upload)
	if err := r.Sweep(t.Context()); err != nil {
		t.Errorf("Sweep: %v", err)
	}
	r.wantServed("a pending blob after a sweep", cached)
	if err := p.Promote(t.Context(), storage.KindBlob, 1000); err != nil {
		t.Errorf("Promote after a sweep: %v", err)
	}
	closeIt(t, p)
	r.wantServed("a promoted blob", d)
	if _, err := os.Stat(filepath.Join(r.dir, "partial", "an-upload")); err != nil {
		t.Errorf("an upload after a sweep: %v", err)
	}
}
