package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// history is a run of every way into and out of a store, and what of it was
// acknowledged.
type history struct {
	*rig
	contents map[digest.Digest][]byte
	kept     map[digest.Digest]bool // must be served by any later process
	gone     map[digest.Digest]bool // must not be
	filed    map[digest.Digest][]oci.Range
	failed   bool
}

func newHistory(r *rig) *history {
	return &history{
		rig: r, contents: map[digest.Digest][]byte{}, kept: map[digest.Digest]bool{},
		gone: map[digest.Digest]bool{}, filed: map[digest.Digest][]oci.Range{},
	}
}

// body makes up content, and remembers it.
func (h *history) body(name string, n int) ([]byte, digest.Digest) {
	b := storagetest.Bytes(name, n)
	d := digest.FromBytes(b)
	h.contents[d] = b
	return b, d
}

// try runs one act unless an earlier one failed: the process is dead then.
func (h *history) try(act func() error, acknowledged func()) {
	if h.failed {
		return
	}
	if err := act(); err != nil {
		if h.faults == nil {
			h.t.Errorf("an act failed by itself: %v", err)
		}
		h.failed = true
		return
	}
	if acknowledged != nil {
		acknowledged()
	}
}

func (h *history) run() {
	ctx := h.t.Context()
	manifest, md := h.body("manifest", 700)
	h.try(func() error {
		return h.Put(ctx, storage.BlobRow{Digest: md, Kind: storage.KindManifest}, manifest, func(tx storage.Tx) error {
			return tx.PutManifest(storage.ManifestRow{Digest: md, Size: 700})
		})
	}, func() { h.kept[md] = true })

	cached, cd := h.body("cached", 5000)
	h.try(func() error { _, err := h.put(cached, storage.KindSpan, storage.Cached); return err }, func() {
		h.wantServed("a cached blob", cd)
	})
	durable, dd := h.body("durable", 6000)
	h.try(func() error { _, err := h.put(durable, storage.KindBlob, storage.Durable); return err }, func() { h.kept[dd] = true })

	_, pd := h.body("promoted", 9000)
	h.try(func() error { return h.arrive(pd, true) }, func() { h.wantServed("a promoted blob", pd) })
	_, hd := h.body("half", 9000)
	h.try(func() error { return h.arrive(hd, false) }, func() { h.filed[hd] = ranges(0, 3000, 4000, 5000) })

	h.try(func() error { return h.Flush(ctx) }, func() { h.kept[cd], h.kept[pd] = true, true })

	// the same again: nothing new, and nothing lost
	h.try(func() error { _, err := h.put(cached, storage.KindSpan, storage.Cached); return err }, nil)
	h.try(func() error { _, err := h.put(cached, storage.KindZTOC, storage.Durable); return err }, nil)

	pushed, ud := h.body("pushed", 7000)
	h.try(func() error { return h.upload(pushed, 3000) }, func() { h.kept[ud] = true })
	h.try(func() error { return h.upload(pushed, 7000) }, nil)
	h.try(func() error { return h.Host(ctx, dd, content(app, dd, len(durable))) }, nil)
	again, ad := h.body("pulled and pushed", 4000)
	h.try(func() error { _, err := h.put(again, storage.KindBlob, storage.Cached); return err }, nil)
	h.try(func() error { return h.upload(again, 1000) }, func() { h.kept[ad] = true })

	other, od := h.body("purged", 4000)
	h.try(func() error { _, err := h.put(other, storage.KindBlob, storage.Durable); return err }, func() { h.kept[od] = true })
	h.try(func() error {
		delete(h.kept, od) // neither is promised while it is under way
		_, err := h.Purge(ctx, od)
		return err
	}, func() { h.gone[od] = true })
	_, xd := h.body("purged partial", 9000)
	h.try(func() error { return h.arrive(xd, false) }, nil)
	h.try(func() error { _, err := h.Purge(ctx, xd); return err }, func() { h.gone[xd] = true })
}

// arrive writes a blob by pieces into its partial, with checkpoints, and to the
// end if whole.
func (h *history) arrive(d digest.Digest, whole bool) (err error) {
	ctx, b := h.t.Context(), h.contents[d]
	p, err := h.OpenPartial(ctx, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	for _, step := range []struct {
		write oci.Range
		have  []oci.Range
	}{
		{oci.Range{Off: 0, End: 3000}, ranges(0, 3000)},
		{oci.Range{Off: 4000, End: 5000}, ranges(0, 3000, 4000, 5000)},
	} {
		if _, err := p.WriteAt(b[step.write.Off:step.write.End], step.write.Off); err != nil {
			return err
		}
		if err := p.Checkpoint(ctx, int64(len(b)), step.have); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	for _, r := range ranges(3000, 4000, 5000, 9000) {
		if _, err := p.WriteAt(b[r.Off:r.End], r.Off); err != nil {
			return err
		}
	}
	return p.Promote(ctx, storage.KindBlob, int64(len(b)))
}

// wantKept checks, in a later process, what was acknowledged in this one.
func (h *history) wantKept(later *rig) {
	h.t.Helper()
	for d := range h.kept {
		later.wantServed("an acknowledged blob", d)
	}
	for d := range h.gone {
		later.wantAbsent("a purged blob", d)
		if _, err := later.partialRow(d); !errors.Is(err, storage.ErrNotFound) {
			h.t.Errorf("a purged partial has a row: %v", err)
		}
	}
	for d, want := range h.filed {
		row, err := later.partialRow(d)
		if err != nil || fmt.Sprint(row.Have) != fmt.Sprint(want) {
			h.t.Errorf("an acknowledged checkpoint: %v (%v), want %v", row.Have, err, want)
		}
	}
}

// TestCrashAtEveryStep stops a history before each change that it makes to the
// medium, and has the medium lose what it may lose.
func TestCrashAtEveryStep(t *testing.T) {
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	whole := newHistory(newRig(t, dir, faults, storage.Options{}))
	opened := faults.Steps()
	whole.run()
	steps := faults.Steps() - opened
	if whole.failed || steps < 50 {
		t.Fatalf("a history without a crash: failed %t, in %d steps", whole.failed, steps)
	}
	for name, loss := range map[string]storagetest.Loss{
		"kill": storagetest.LoseNothing, "bytes lost": storagetest.LoseBytes, "names lost": storagetest.LoseNames,
	} {
		for step := 1; step <= steps+1; step++ {
			t.Run(fmt.Sprintf("%s at %d", name, step), func(t *testing.T) {
				t.Parallel()
				crashAt(t, step, loss)
			})
		}
	}
}

func crashAt(t *testing.T, step int, loss storagetest.Loss) {
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	first := newHistory(newRig(t, dir, faults, storage.Options{}))
	faults.CrashAt(faults.Steps() + step)
	first.run()
	if err := faults.PowerCut(loss); err != nil {
		t.Fatalf("PowerCut: %v", err)
	}

	again := newHistory(first.reopen(storage.Options{}))
	again.wantSound(first.contents)
	first.wantKept(again.rig)
	if err := again.Sweep(t.Context()); err != nil {
		t.Errorf("Sweep: %v", err)
	}
	again.wantNoGarbage()
	again.wantSound(first.contents)
	first.wantKept(again.rig)

	again.run() // all of it works on what is left
	if again.failed {
		t.Error("the next process could not go on")
	}
	again.wantSound(again.contents)
	again.wantKept(again.rig)
	again.wantUsage()
	again.wantNoGarbage()
}
