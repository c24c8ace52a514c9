package storage_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// crashIn runs act on what fill made, stopped before each change to the medium
// in turn, and has check look at what the next process finds.
func crashIn(t *testing.T, o func() storage.Options, fill func(r *rig), act func(r *rig) error, check func(t *testing.T, r *rig)) {
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	whole := newRig(t, dir, faults, o())
	fill(whole)
	before := faults.Steps()
	if err := act(whole); err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	steps := faults.Steps() - before
	if steps < 3 {
		t.Fatalf("the act takes %d steps", steps)
	}
	for name, loss := range map[string]storagetest.Loss{"kill": storagetest.LoseNothing, "bytes lost": storagetest.LoseBytes, "names lost": storagetest.LoseNames} {
		for step := 1; step <= steps; step++ {
			t.Run(fmt.Sprintf("%s at %d of %d", name, step, steps), func(t *testing.T) {
				dir := t.TempDir()
				faults := storagetest.NewFaults(dir)
				r := newRig(t, dir, faults, o())
				fill(r)
				faults.CrashAt(faults.Steps() + step)
				_ = act(r) // dead, whatever it says
				if err := faults.PowerCut(loss); err != nil {
					t.Fatalf("PowerCut: %v", err)
				}
				next := r.reopen(o())
				if err := next.Sweep(t.Context()); err != nil {
					t.Errorf("Sweep: %v", err)
				}
				next.wantNoGarbage()
				check(t, next)
				next.wantSound(nil)
				if err := next.Flush(t.Context()); err != nil {
					t.Errorf("Flush: %v", err)
				}
				next.wantUsage()
				if found, _ := next.check(false); len(found) > 0 {
					t.Errorf("the rows contradict each other: %v", found)
				}
			})
		}
	}
}

// TestCrashInPurgeImage has the next process purge again: nothing that is never
// evicted is left over.
func TestCrashInPurgeImage(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 200_000, spanSize)
	var w *world
	crashIn(t, func() storage.Options { return storage.Options{} },
		func(r *rig) { w = fillWorld(r.t, r, l) },
		func(r *rig) error {
			_, err := r.PurgeImage(r.t.Context(), storage.PurgeOptions{Repo: repoA, Root: w.index, Block: &storage.BlockRow{Name: "a:1"}})
			return err
		},
		func(t *testing.T, r *rig) {
			r.wantSound(nil)
			_, err := r.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: w.index})
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("PurgeImage again: %v", err)
			}
			for name, d := range map[string]digest.Digest{"index": w.index, "one": w.one, "two": w.two, "soci": w.soci, "ztoc": w.zTOC} {
				r.wantAbsent(name, d)
			}
			r.wantServed("what others have", w.base)
		})
}

// TestCrashInReduce evicts a layer of which something was read.
func TestCrashInReduce(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 100_000, spanSize)
	var now *clock
	options := func() storage.Options {
		if now == nil {
			now = &clock{t: noon}
		}
		return storage.Options{MaxBytes: l.Row.Size + l.Row.ZTOCSize + 100_000, Now: now.now}
	}
	crashIn(t, options,
		func(r *rig) {
			l.Store(r.t, r.Store)
			now.forward(time.Hour)
			r.readSpans(l, 1, 2)
		},
		func(r *rig) error {
			if _, err := r.put(kb("new", 150), storage.KindBlob, storage.Cached); err != nil {
				return err
			}
			return r.Flush(r.t.Context())
		},
		func(t *testing.T, r *rig) {
			r.wantSound(nil)
			r.spansHere(l) // reads those that are there
			r.mustPut(kb("new", 150), storage.KindBlob, storage.Durable)
			r.wantServed("zTOC", l.Row.ZTOC)
			if got := r.Usage(); got.Total() > got.Limit {
				t.Errorf("%d bytes are stored, the limit is %d", got.Total(), got.Limit)
			}
		})
}

// TestCrashInRepair has the next check do the rest.
func TestCrashInRepair(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 200_000, spanSize)
	var w *world
	crashIn(t, func() storage.Options { return storage.Options{} },
		func(r *rig) {
			w = fillWorld(r.t, r, l)
			if err := r.Flush(r.t.Context()); err != nil {
				r.t.Fatal(err)
			}
			r.rot(w.base, 5)
			r.rot(l.Row.ZTOC, 5)
		},
		func(r *rig) error { _, err := r.Check(r.t.Context(), storage.CheckOptions{Repair: true}); return err },
		func(t *testing.T, r *rig) {
			if _, err := r.Check(t.Context(), storage.CheckOptions{Repair: true}); err != nil {
				t.Errorf("Check: %v", err)
			}
			r.wantAbsent("what rotted", w.base)
			r.wantServed("what did not", w.shared)
		})
}
