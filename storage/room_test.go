package storage_test

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
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
