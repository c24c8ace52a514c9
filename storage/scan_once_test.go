package storage_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestScanAtOnce has one-time pulls of three times the cache pass by, so many of them
// under way at a time, in a store of which 60 % were read again. However long that
// goes on, it costs no more of these than what is under way has no room beside them.
func TestScanAtOnce(t *testing.T) {
	for _, c := range []struct{ atOnce, stay int }{
		{1, 12},
		{6, 12}, // all that is under way, one that is done, and a twentieth have room
		{10, 8},
		{16, 2},
	} {
		for _, ahead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d at once, room made ahead %v", c.atOnce, ahead), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000})
					hot := map[string]digest.Digest{}
					for i := range 12 {
						name := fmt.Sprint("hot", i)
						hot[name] = r.mustPut(kb(name, 50), storage.KindBlob, storage.Durable)
					}
					if ahead {
						stop := r.running()
						defer stop()
					}
					pass(time.Hour)
					for name, d := range hot {
						r.wantServed(name, d)
					}
					pass(time.Minute)
					r.scan(c.atOnce, 60, true)
					left := 0
					for _, d := range hot {
						if _, err := r.Stat(t.Context(), d); err == nil {
							left++
						}
					}
					if left < c.stay {
						t.Errorf("%d of %d that were read again are left, want %d", left, len(hot), c.stay)
					}
				})
			})
		}
	}
}

// slowSync has a sync take ten seconds.
type slowSync struct{ storage.Blobs }

func (b slowSync) Sync(ctx context.Context, names ...digest.Digest) error {
	time.Sleep(10 * time.Second)
	return b.Blobs.Sync(ctx, names...)
}

// TestScanOnSlowDisk is TestScanAtOnce, one pull at a time and ten a sync: what is
// not filed yet, and so can't go, costs nothing that was read again.
func TestScanOnSlowDisk(t *testing.T) {
	for _, committer := range []bool{false, true} {
		t.Run(fmt.Sprintf("committer %v", committer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d, err := disk.NewFS(dir, storagetest.NoSync{})
				if err != nil {
					t.Fatal(err)
				}
				r := newRig(t, dir, nil, storage.Options{MaxBytes: 1_000_000, Blobs: slowSync{d}})
				hot := map[string]digest.Digest{}
				for i := range 12 {
					name := fmt.Sprint("hot", i)
					hot[name] = r.mustPut(kb(name, 50), storage.KindBlob, storage.Durable)
				}
				if committer {
					stop := r.running()
					defer stop()
				}
				pass(time.Hour)
				for name, d := range hot {
					r.wantServed(name, d)
				}
				pass(time.Minute)
				r.scan(1, 60, false)
				for name, d := range hot {
					if _, err := r.Stat(t.Context(), d); err != nil {
						t.Errorf("%s, which was read again, is gone: %v", name, err)
					}
				}
			})
		})
	}
}

// scan has so many blobs of 50,000 bytes pulled, at most atOnce of them at a time,
// and each filed at its end if it is to be: each finds room.
func (r *rig) scan(atOnce, pulls int, filed bool) {
	r.t.Helper()
	end := func(p *storage.Partial) {
		if err := p.Promote(r.t.Context(), storage.KindBlob, 50_000); err != nil {
			r.t.Errorf("Promote: %v", err)
		}
		closeIt(r.t, p)
		if filed {
			if err := r.Flush(r.t.Context()); err != nil {
				r.t.Errorf("Flush: %v", err)
			}
		}
		pass(time.Second)
	}
	var underWay []*storage.Partial
	for i := range pulls {
		body := kb(fmt.Sprint("once", i), 50)
		p := r.openPartial(digest.FromBytes(body))
		if err := p.Reserve(r.t.Context(), 50_000); err != nil {
			r.t.Errorf("Reserve: %v", err)
		}
		writeAt(r.t, p, body, ranges(0, 50_000)...)
		pass(time.Second)
		if underWay = append(underWay, p); len(underWay) == atOnce {
			end(underWay[0])
			underWay = underWay[1:]
		}
	}
	for _, p := range underWay {
		end(p)
	}
}
