package storage_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// TestRoomComesBack has writers go without a commit: what they were promised is
// there for the next one, to the last byte.
func TestRoomComesBack(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 100_000})
	body := kb("x", 100)
	for name, use := range map[string]func() error{
		"writer": func() error {
			w, err := r.Create(t.Context())
			if err != nil {
				return err
			}
			if _, err := w.Write(body[:60_000]); err != nil {
				return err
			}
			return w.Close()
		},
		"writer, wrong digest": func() error {
			w, err := r.Create(t.Context())
			if err != nil {
				return err
			}
			if _, err := w.Write(body[:60_000]); err != nil {
				return err
			}
			row := storage.BlobRow{Digest: digest.FromString("other"), Kind: storage.KindBlob}
			if w.Commit(t.Context(), row, storage.Durable) == nil {
				t.Error("Commit of other bytes succeeded")
			}
			return w.Close()
		},
		"reserved": func() error {
			w, err := r.Create(t.Context())
			if err != nil {
				return err
			}
			if err := w.Reserve(t.Context(), 90_000); err != nil {
				return err
			}
			return w.Close()
		},
		"partial": func() error {
			p := r.openPartial(digest.FromBytes(body))
			if err := p.Reserve(t.Context(), 100_000); err != nil {
				return err
			}
			writeAt(t, p, body, ranges(0, 70_000, 50_000, 100_000)...)
			return p.Close()
		},
		"partial, filed and purged": func() error {
			p := r.openPartial(digest.FromBytes(body))
			writeAt(t, p, body, ranges(0, 70_000)...)
			if err := p.Checkpoint(t.Context(), 100_000, ranges(0, 70_000)); err != nil {
				return err
			}
			if err := p.Close(); err != nil {
				return err
			}
			_, err := r.Purge(t.Context(), digest.FromBytes(body))
			return err
		},
		"blob, purged": func() error {
			d := r.mustPut(body, storage.KindManifest, storage.Cached)
			_, err := r.Purge(t.Context(), d)
			return err
		},
	} {
		for range 2 {
			if err := use(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := r.Usage().Total(); got != 0 {
			t.Errorf("%s: %d bytes are counted, want 0", name, got)
		}
	}
}

// TestTooBigEvictsNothing asks for more than the store could ever hold, as an
// upstream's Content-Length or a forged Content-Range may have it: that is
// refused at once, at no blob's cost, and the limits hold on.
func TestTooBigEvictsNothing(t *testing.T) {
	const limit = 1 << 20
	for name, tt := range map[string]struct {
		o    storage.Options
		size int64
	}{
		"more than the limit":          {storage.Options{MaxBytes: limit}, limit + 1},
		"more than what may go":        {storage.Options{MaxBytes: limit}, limit - 50_000},
		"overflow":                     {storage.Options{MaxBytes: limit}, math.MaxInt64 - 1},
		"overflow, no limit":           {storage.Options{}, math.MaxInt64 - 1},
		"overflow of the free space":   {storage.Options{MinFree: limit}, math.MaxInt64 - 1},
		"more than the medium will do": {storage.Options{MinFree: limit}, 64 * limit},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			blobs, err := disk.NewFS(dir, &meter{total: 3 * limit})
			if err != nil {
				t.Fatalf("open blobs: %v", err)
			}
			tt.o.Blobs = blobs
			r := newRig(t, dir, nil, tt.o)
			r.mustPut(kb("kept", 100), storage.KindManifest, storage.Durable)
			for i := range 20 {
				r.mustPut(kb(fmt.Sprint(i), 40), storage.KindBlob, storage.Durable)
			}
			before := r.Usage().Total()
			p := r.openPartial(digest.FromString("huge"))
			defer p.Close()
			if err := p.Reserve(t.Context(), tt.size); !errors.Is(err, storage.ErrFull) {
				t.Errorf("Reserve of %d bytes: %v, want ErrFull", tt.size, err)
			}
			if got := r.Usage().Total(); got != before {
				t.Errorf("%d bytes are stored after it, want %d", got, before)
			}
			for i := range 20 {
				if _, err := r.put(kb(fmt.Sprint("more", i), 40), storage.KindBlob, storage.Durable); err != nil {
					t.Fatalf("put after it: %v", err)
				}
			}
			if got := r.Usage().Total(); tt.o.MaxBytes > 0 && got > tt.o.MaxBytes {
				t.Errorf("%d bytes are stored, more than the limit", got)
			}
		})
	}
}

// TestSweepSeesCommits has a blob and a partial get their rows between the walk
// and the removal.
func TestSweepSeesCommits(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	bodies := map[string][]byte{"pending": kb("pending", 5), "filed": kb("filed", 5), "open": kb("open", 5), "checkpoint": kb("checkpoint", 5)}
	var open *storage.Partial
	leave := func() {
		for _, name := range []string{"pending", "filed"} {
			w, err := r.disk.Create(t.Context())
			if err != nil {
				t.Fatalf("Create: %v", err)
			}
			if _, err := w.Write(bodies[name]); err != nil {
				t.Fatalf("Write: %v", err)
			}
			if err := w.Commit(t.Context(), digest.FromBytes(bodies[name])); err != nil {
				t.Fatalf("Commit: %v", err)
			}
			closeIt(t, w)
		}
		for _, name := range []string{"open", "checkpoint"} {
			p, err := r.disk.OpenPartial(t.Context(), digest.FromBytes(bodies[name]).String())
			if err != nil {
				t.Fatalf("OpenPartial: %v", err)
			}
			closeIt(t, p)
		}
	}
	leave()
	err := r.SweepAfter(t.Context(), func() {
		r.mustPut(bodies["pending"], storage.KindBlob, storage.Cached)
		r.mustPut(bodies["filed"], storage.KindBlob, storage.Durable)
		open = r.openPartial(digest.FromBytes(bodies["open"]))
		writeAt(t, open, bodies["open"], ranges(0, 5000)...)
		p := r.openPartial(digest.FromBytes(bodies["checkpoint"]))
		writeAt(t, p, bodies["checkpoint"], ranges(0, 5000)...)
		if err := p.Checkpoint(t.Context(), 5000, ranges(0, 5000)); err != nil {
			t.Errorf("Checkpoint: %v", err)
		}
		closeIt(t, p)
	})
	if err != nil {
		t.Errorf("Sweep: %v", err)
	}
	r.wantServed("what is pending", digest.FromBytes(bodies["pending"]))
	r.wantServed("what has got a row", digest.FromBytes(bodies["filed"]))
	if err := open.Promote(t.Context(), storage.KindBlob, 5000); err != nil {
		t.Errorf("Promote: %v", err)
	}
	closeIt(t, open)
	r.wantServed("what was open", digest.FromBytes(bodies["open"]))
	p := r.openPartial(digest.FromBytes(bodies["checkpoint"]))
	if len(p.Have()) != 1 {
		t.Errorf("a partial that was filed has %v", p.Have())
	}
	closeIt(t, p)
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	r.wantUsage()
}
