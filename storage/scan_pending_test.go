package storage_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// slowDisk takes a second to make anything durable, once it is.
type slowDisk struct {
	*disk.Disk
	is atomic.Bool
}

func (s *slowDisk) Sync(ctx context.Context, ds ...digest.Digest) error {
	if s.is.Load() {
		time.Sleep(time.Second)
	}
	return s.Disk.Sync(ctx, ds...)
}

// TestScanOfSlowDisk has one-time pulls come one after another, faster than the disk
// makes them durable: what waits for that makes room for the next ones, and not what
// was read again.
func TestScanOfSlowDisk(t *testing.T) {
	for name, run := range map[string]bool{"nothing commits beside it": false, "all runs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				files, err := disk.NewFS(dir, storagetest.NoSync{})
				if err != nil {
					t.Fatal(err)
				}
				medium := &slowDisk{Disk: files}
				r := newRig(t, dir, nil, storage.Options{MaxBytes: 1_000_000, Blobs: medium})
				hot := r.putMany("hot", 12, storage.KindBlob)
				if run {
					stop := r.running()
					defer stop()
				}
				pass(time.Hour)
				r.wantAllServed(hot)
				pass(time.Minute)
				medium.is.Store(true)
				for i := range 60 {
					body := kb(fmt.Sprint("once", i), 50)
					p := r.openPartial(digest.FromBytes(body))
					if err := p.Reserve(t.Context(), 50_000); err != nil {
						t.Errorf("Reserve: %v", err)
					}
					writeAt(t, p, body, ranges(0, 50_000)...)
					if err := p.Promote(t.Context(), storage.KindBlob, 50_000); err != nil {
						t.Errorf("Promote: %v", err)
					}
					closeIt(t, p)
				}
				r.wantAllServed(hot)
				medium.is.Store(false)
				if err := r.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				r.wantUsage()
			})
		})
	}
}
