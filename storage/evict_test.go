package storage_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// kb makes content of n thousand bytes.
func kb(name string, n int) []byte { return storagetest.Bytes(name, n*1000) }

func (r *rig) wantWhich(served map[string]digest.Digest, want ...string) {
	r.t.Helper()
	left := map[string]bool{}
	for _, name := range want {
		left[name] = true
	}
	for name, d := range served {
		if left[name] {
			r.wantServed(name, d)
		} else {
			r.wantAbsent(name, d)
		}
	}
}

// TestEvictOldest fills a store of 100 kB, one kind of thing after another, and
// has room made for the last.
func TestEvictOldest(t *testing.T) {
	now := &clock{t: noon}
	told := map[digest.Digest]bool{}
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 100_000, Now: now.now, Evicted: func(_ storage.Tx, row storage.BlobRow) error {
		told[row.Digest] = true
		return nil
	}})
	ds := map[string]digest.Digest{}
	for _, c := range []struct {
		name string
		size int
		kind storage.Kind
	}{
		{"manifest", 5, storage.KindManifest}, {"ztoc", 5, storage.KindZTOC}, {"index", 5, storage.KindIndex},
		{"read again", 20, storage.KindBlob}, {"old blob", 10, storage.KindBlob}, {"old span", 20, storage.KindSpan},
		{"open", 10, storage.KindBlob}, {"young", 20, storage.KindBlob},
	} {
		now.forward(time.Hour)
		ds[c.name] = r.mustPut(kb(c.name, c.size), c.kind, storage.Durable)
	}
	now.forward(time.Hour)
	r.wantServed("read again", ds["read again"]) // noted in memory only
	open, err := r.Open(t.Context(), ds["open"])
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	ds["fits"] = r.mustPut(kb("fits", 5), storage.KindBlob, storage.Cached) // to the last byte
	for name, d := range ds {
		if _, err := r.Stat(t.Context(), d); err != nil {
			t.Errorf("%s, before there is too much: %v", name, err)
		}
	}

	ds["new"] = r.mustPut(kb("new", 20), storage.KindBlob, storage.Durable)
	r.wantWhich(ds, "manifest", "ztoc", "index", "read again", "open", "young", "fits", "new")
	if len(told) != 1 || !told[ds["old blob"]] {
		t.Errorf("told of %v, want the blob alone, %s", told, ds["old blob"])
	}
	if err := open.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	r.wantUsage()
	if got := r.Usage().Total(); got > 100_000 {
		t.Errorf("%d bytes are stored, the limit is 100000", got)
	}
	r.wantNoGarbage()
}

// TestEvictPartials has partials go that nobody has open, by age like any other.
func TestEvictPartials(t *testing.T) {
	now := &clock{t: noon}
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 100_000, Now: now.now})
	arrive := func(name string) (digest.Digest, *storage.Partial) {
		now.forward(time.Hour)
		d := digest.FromBytes(kb(name, 30))
		p := r.openPartial(d)
		writeAt(t, p, kb(name, 30), ranges(0, 30_000)...)
		if err := p.Checkpoint(t.Context(), 30_000, ranges(0, 30_000)); err != nil {
			t.Fatalf("Checkpoint: %v", err)
		}
		return d, p
	}
	opened, p := arrive("open")
	closed, q := arrive("closed")
	closeIt(t, q)
	now.forward(time.Hour)
	blob := r.mustPut(kb("blob", 30), storage.KindBlob, storage.Durable)
	now.forward(time.Hour)
	r.mustPut(kb("new", 30), storage.KindBlob, storage.Durable)
	if _, err := r.partialRow(closed); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("row of the oldest, which is closed: %v, want ErrNotFound", err)
	}
	if _, err := r.partialRow(opened); err != nil {
		t.Errorf("row of the open partial: %v", err)
	}
	r.wantServed("a younger blob", blob)
	closeIt(t, p)
	r.wantUsage()
	r.wantNoGarbage()
}

func TestFull(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 100_000})
	kept := r.mustPut(kb("kept", 90), storage.KindManifest, storage.Durable)
	for name, grow := range map[string]func() error{
		"write": func() error { _, err := r.put(kb("x", 20), storage.KindBlob, storage.Cached); return err },
		"put": func() error {
			return r.Put(t.Context(), storage.BlobRow{Digest: digest.FromBytes(kb("x", 20)), Kind: storage.KindManifest}, kb("x", 20), nil)
		},
		"reserve": func() error {
			w, err := r.Create(t.Context())
			if err != nil {
				return err
			}
			return errors.Join(w.Reserve(t.Context(), 20_000), w.Close())
		},
		"partial": func() error {
			p := r.openPartial(digest.FromBytes(kb("x", 20)))
			_, err := p.WriteAt(kb("x", 20), 0)
			return errors.Join(err, p.Close())
		},
		"partial, reserve": func() error {
			p := r.openPartial(digest.FromBytes(kb("x", 20)))
			return errors.Join(p.Reserve(t.Context(), 20_000), p.Close())
		},
		"more than all": func() error { _, err := r.put(kb("x", 200), storage.KindBlob, storage.Cached); return err },
	} {
		if err := grow(); !errors.Is(err, storage.ErrFull) {
			t.Errorf("%s: %v, want ErrFull", name, err)
		}
		r.wantNoGarbage()
		r.wantUsage()
	}
	r.wantServed("what may not go", kept)
	small := r.mustPut(kb("small", 10), storage.KindBlob, storage.Durable)
	r.wantServed("what fits", small)
}

// TestReserve has one writer's promise keep others out, until it is given back.
func TestReserve(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 100_000})
	body := kb("x", 60)
	p := r.openPartial(digest.FromBytes(body))
	if err := p.Reserve(t.Context(), 60_000); err != nil {
		t.Fatalf("Reserve: %v", err)
	}
	if _, err := r.put(kb("y", 60), storage.KindBlob, storage.Cached); !errors.Is(err, storage.ErrFull) {
		t.Errorf("a second one: %v, want ErrFull", err)
	}
	writeAt(t, p, body, ranges(0, 60_000)...)
	if err := p.Promote(t.Context(), storage.KindBlob, 60_000); err != nil {
		t.Fatalf("Promote: %v", err)
	}
	closeIt(t, p)
	// the first is pending: it is made durable, and goes
	second := r.mustPut(kb("y", 60), storage.KindBlob, storage.Cached)
	r.wantAbsent("the first", digest.FromBytes(body))
	r.wantServed("the second", second)
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	r.wantUsage()
}

// TestLimitHolds has more writers than there is room for, and counts the bytes
// on the medium all the while.
func TestLimitHolds(t *testing.T) {
	t.Run("a limit", func(t *testing.T) { limitHolds(t, &meter{}, storage.Options{MaxBytes: 400_000}) })
	t.Run("a floor", func(t *testing.T) { limitHolds(t, &meter{total: 1_000_000}, storage.Options{MinFree: 600_000}) })
}

// limitHolds is TestLimitHolds with 400,000 bytes, as o says.
func limitHolds(t *testing.T, medium *meter, o storage.Options) {
	t.Helper()
	const limit = 400_000
	dir := t.TempDir()
	blobs, err := disk.NewFS(dir, medium)
	if err != nil {
		t.Fatalf("open blobs: %v", err)
	}
	o.Blobs = blobs
	s, stop := storagetest.Open(t, dir, o)
	var work sync.WaitGroup
	var full, stored atomic.Int32
	count := func(err error) {
		switch {
		case err == nil:
			stored.Add(1)
		case errors.Is(err, storage.ErrFull):
			full.Add(1)
		default:
			t.Errorf("store: %v", err)
		}
	}
	for i := range 50 {
		work.Go(func() {
			r := &rig{Store: s, t: t}
			for j := range 4 {
				body := kb(fmt.Sprintf("%d %d", i, j), 20)
				if (i+j)%2 == 0 {
					_, err := r.put(body, storage.KindBlob, storage.Cached)
					count(err)
					continue
				}
				p := r.openPartial(digest.FromBytes(body))
				_, err := p.WriteAt(body, 0)
				if err == nil && i%3 > 0 {
					err = p.Checkpoint(t.Context(), 20_000, ranges(0, 20_000))
				}
				if err == nil && i%3 < 2 {
					err = p.Promote(t.Context(), storage.KindBlob, 20_000)
				}
				count(errors.Join(err, p.Close()))
			}
		})
	}
	work.Wait()
	if most := medium.most.Load(); most > limit || most < limit/2 {
		t.Errorf("the medium held up to %d bytes, the limit is %d", most, limit)
	}
	if stored.Load() < 50 {
		t.Errorf("%d were stored, %d refused", stored.Load(), full.Load())
	}
	stop()
	wantSoundAfter(t, dir)
}

// wantSoundAfter opens the store that limitHolds left.
func wantSoundAfter(t *testing.T, dir string) {
	t.Helper()
	after := newRig(t, dir, nil, storage.Options{})
	contents := map[digest.Digest][]byte{}
	for i := range 50 {
		for j := range 4 {
			body := kb(fmt.Sprintf("%d %d", i, j), 20)
			contents[digest.FromBytes(body)] = body
		}
	}
	after.wantSound(contents)
	after.wantNoGarbage()
}

// TestMinFree has another program fill the medium.
func TestMinFree(t *testing.T) {
	now := &clock{t: noon}
	medium := &meter{total: 1_000_000}
	medium.others.Store(800_000)
	dir := t.TempDir()
	blobs, err := disk.NewFS(dir, medium)
	if err != nil {
		t.Fatalf("open blobs: %v", err)
	}
	r := newRig(t, dir, nil, storage.Options{Blobs: blobs, MinFree: 100_000, Now: now.now})
	old := r.mustPut(kb("old", 40), storage.KindBlob, storage.Durable)
	now.forward(time.Hour)
	young := r.mustPut(kb("young", 40), storage.KindBlob, storage.Durable)
	if _, err := r.Stat(t.Context(), old); err != nil { // not read: that would make it worth more
		t.Errorf("old, while there is room: %v", err)
	}
	now.forward(time.Hour)
	next := r.mustPut(kb("next", 40), storage.KindBlob, storage.Durable)
	r.wantAbsent("old", old)
	r.wantServed("young", young)
	medium.others.Store(960_000)
	if _, err := r.put(kb("more", 40), storage.KindBlob, storage.Durable); !errors.Is(err, storage.ErrFull) {
		t.Errorf("put on a full medium: %v, want ErrFull", err)
	}
	r.wantAbsent("young, there being no room at all", young)
	r.wantAbsent("next, there being no room at all", next)
	medium.others.Store(0)
	r.mustPut(kb("more", 40), storage.KindBlob, storage.Durable)
	r.wantUsage()
}
