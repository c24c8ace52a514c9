package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestCheckWhileUsed finds nothing wrong with what comes and goes meanwhile.
func TestCheckWhileUsed(t *testing.T) {
	s := storagetest.NewStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			r := &rig{Store: s, t: t}
			for j := 0; ctx.Err() == nil; j++ {
				body := kb(fmt.Sprint(i, j%20), 30)
				d, err := r.put(body, storage.KindBlob, storage.Durability(j%2))
				if err == nil && j%3 == 0 {
					_, err = s.Purge(t.Context(), d)
				}
				if err == nil && j%5 == 0 {
					_, err = s.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: d})
					if errors.Is(err, storage.ErrNotFound) {
						err = nil
					}
				}
				if err != nil {
					t.Errorf("worker: %v", err)
				}
			}
		})
	}
	for range 20 {
		report, err := s.Check(t.Context(), storage.CheckOptions{Repair: true, Found: func(p storage.Problem) { t.Errorf("found %+v", p) }})
		if err != nil || report.Problems > 0 {
			t.Errorf("Check: %+v, %v", report, err)
		}
	}
	cancel()
	work.Wait()
}

func TestCheckEnds(t *testing.T) {
	layer := stockLayer(t)
	r := newStock(t, layer)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	var told storage.CheckProgress
	report, err := r.Check(ctx, storage.CheckOptions{
		BytesPerSecond: 100_000, // so it would take 9 s
		Progress: func(p storage.CheckProgress) {
			told = p
			if _, err := r.Check(t.Context(), storage.CheckOptions{}); !errors.Is(err, storage.ErrBusy) || !strings.Contains(err.Error(), "another check") {
				t.Errorf("a second check: %v, want ErrBusy by another check", err)
			}
			cancel(why)
		},
	})
	if !errors.Is(err, why) || report.Took == 0 {
		t.Errorf("Check: %+v, %v, want the cause of its end", report, err)
	}
	if told.OfBlobs < 6 || told.OfBytes < 700_000 || told.Bytes == 0 || told.Bytes >= told.OfBytes {
		t.Errorf("progress %+v", told)
	}
	if found, _ := r.check(false); len(found) > 0 {
		t.Errorf("the next check finds %v", found)
	}
	if strings.Join(r.quarantined(), "") != "" {
		t.Error("something is in quarantine")
	}
}

// comesByPieces gives a blob that has just got its name, and not yet its row: that of
// its pieces is still there.
func (r *rig) comesByPieces() digest.Digest {
	r.t.Helper()
	body := kb("x", 500)
	d := digest.FromBytes(body)
	p := r.openPartial(d)
	writeAt(r.t, p, body, ranges(0, 250_000)...)
	if err := p.Checkpoint(r.t.Context(), 500_000, ranges(0, 250_000)); err != nil {
		r.t.Fatal(err)
	}
	writeAt(r.t, p, body, ranges(250_000, 500_000)...)
	if err := p.Promote(r.t.Context(), storage.KindBlob, 500_000); err != nil {
		r.t.Fatal(err)
	}
	closeIt(r.t, p)
	return d
}

// TestCheckOfWhatIsPending checks a store in which a blob has just got its name, and
// not yet its row: there is nothing to say of it.
func TestCheckOfWhatIsPending(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	d := r.comesByPieces()
	if found, report := r.check(true); len(found) > 0 || report.Leftovers > 0 {
		t.Errorf("found %q, %+v", found, report)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantServed("what was pending", d)
	r.wantUsage()
}

// TestLostInItsSync loses a blob that came by pieces when it is to be made durable:
// no row speaks of it, or of the pieces, any more.
func TestLostInItsSync(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{})
	d := r.comesByPieces()
	r.faults.Hook(failOp("sync", "blobs", syscall.EIO))
	if err := r.Flush(t.Context()); err == nil {
		t.Error("Flush succeeds though the medium failed")
	}
	r.faults.Hook(nil)
	r.wantAbsent("what was lost", d)
	r.wantUsage()
	if row, err := r.partialRow(d); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the row of its pieces: %+v, %v", row, err)
	}
}
