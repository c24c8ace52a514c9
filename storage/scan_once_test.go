package storage_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// scanned is a store of a million bytes, 60 % of which were read again, and 50
// fills under way at once, of 50,000 bytes each, of what was never read before:
// fills are those that found room.
func scanned(t *testing.T) (r *rig, now *clock, hot map[string]digest.Digest, fills []*storage.Partial) {
	t.Helper()
	return scan(t, func(*rig) func() { return func() {} })
}

// scan is scanned, where begin is called before the fills, and what it gives after
// each.
func scan(t *testing.T, begin func(*rig) func()) (r *rig, now *clock, hot map[string]digest.Digest, fills []*storage.Partial) {
	t.Helper()
	now = &clock{t: noon}
	r = newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Now: now.now})
	hot = map[string]digest.Digest{}
	for i := range 12 {
		name := fmt.Sprint("hot", i)
		hot[name] = r.mustPut(kb(name, 50), storage.KindBlob, storage.Durable)
	}
	now.forward(time.Hour)
	for name, d := range hot {
		r.wantServed(name, d)
	}
	now.forward(time.Minute)
	after := begin(r)
	for i := range 50 {
		p := r.openPartial(once(i))
		err := p.Reserve(t.Context(), 50_000)
		after()
		switch {
		case err == nil:
			fills = append(fills, p)
			t.Cleanup(func() { _ = p.Close() }) // again, where the test closed it
			continue
		case !errors.Is(err, storage.ErrFull):
			t.Errorf("Reserve: %v, want ErrFull", err)
		}
		closeIt(t, p)
	}
	return r, now, hot, fills
}

func once(i int) digest.Digest { return digest.FromBytes(kb(fmt.Sprint("once", i), 50)) }

// stay gives how many of ds are stored.
func (r *rig) stay(ds map[string]digest.Digest) (n int) {
	for _, d := range ds {
		if _, err := r.Stat(r.t.Context(), d); err == nil {
			n++
		}
	}
	return n
}

// TestScanAtOnce has one-time pulls of three times the cache be under way at once:
// they get what is free, and nothing that was read again.
func TestScanAtOnce(t *testing.T) {
	r, _, hot, fills := scanned(t)
	if n := r.stay(hot); n != len(hot) || len(fills) != 8 {
		t.Errorf("%d of %d that were read again are left, %d fills found room, want 8", n, len(hot), len(fills))
	}
}

// TestScanAtOnceAhead is TestScanAtOnce where room is made before anybody needs it.
func TestScanAtOnceAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stop func()
		r, _, hot, _ := scan(t, func(r *rig) func() {
			stop = r.running()
			return func() { pass(time.Second) }
		})
		if n := r.stay(hot); n != len(hot) {
			t.Errorf("%d of %d that were read again are left", n, len(hot))
		}
		stop()
	})
}

// TestPinnedIsNoScan has an operator pin what nobody has read again, more than a
// tenth of the store: first pulls find room.
func TestPinnedIsNoScan(t *testing.T) {
	now := &clock{t: noon}
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Now: now.now})
	for i := range 4 {
		d := r.mustPut(kb(fmt.Sprint("pinned", i), 50), storage.KindBlob, storage.Durable)
		err := r.Update(t.Context(), func(tx storage.Tx) error {
			return tx.PutPin(storage.PinRow{Reference: d.Encoded(), Root: d, Holds: []digest.Digest{d}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	hot := map[string]digest.Digest{}
	for i := range 15 {
		name := fmt.Sprint("hot", i)
		hot[name] = r.mustPut(kb(name, 50), storage.KindBlob, storage.Durable)
	}
	now.forward(time.Hour)
	for name, d := range hot {
		r.wantServed(name, d)
	}
	now.forward(time.Minute)
	p := r.openPartial(digest.FromString("new"))
	defer closeIt(t, p)
	if err := p.Reserve(t.Context(), 80_000); err != nil {
		t.Errorf("Reserve: %v", err)
	}
}

// TestScanIsRead has the pulls of the scan be done, but for slow clients that read
// on, and another one begin.
func TestScanIsRead(t *testing.T) {
	for name, flush := range map[string]bool{"pending": false, "filed": true} {
		t.Run(name, func(t *testing.T) {
			r, _, hot, fills := scanned(t)
			for i, p := range fills {
				if _, err := p.WriteAt(kb(fmt.Sprint("once", i), 50), 0); err != nil {
					t.Fatal(err)
				}
				if err := p.Promote(t.Context(), storage.KindBlob, 50_000); err != nil {
					t.Fatal(err)
				}
			}
			if flush {
				if err := r.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			p := r.openPartial(digest.FromString("next"))
			defer closeIt(t, p)
			if err := p.Reserve(t.Context(), 50_000); !errors.Is(err, storage.ErrFull) {
				t.Errorf("Reserve: %v, want ErrFull", err)
			}
			if n := r.stay(hot); n != len(hot) {
				t.Errorf("%d of %d that were read again are left", n, len(hot))
			}
		})
	}
}

// TestScanRefusesNoMore has others need room beside a scan: those whom it may not
// be refused, and whoever asks again for what found none.
func TestScanRefusesNoMore(t *testing.T) {
	for name, take := range map[string]func(*rig) error{
		"push": func(r *rig) error {
			_, err := r.put(kb("pushed", 50), storage.KindHosted, storage.Durable)
			return err
		},
		"manifest": func(r *rig) error {
			body := kb("manifest", 50)
			row := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindManifest}
			return r.Put(r.t.Context(), row, body, nil)
		},
		"asked again": func(r *rig) error {
			p := r.openPartial(once(49))
			return errors.Join(p.Reserve(r.t.Context(), 50_000), p.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, hot, _ := scanned(t)
			if err := take(r); err != nil {
				t.Error(err)
			}
			if n := r.stay(hot); n == len(hot) {
				t.Error("it took nobody's room")
			}
		})
	}
}

// TestLargeFill has one blob that is larger than a tenth of the cache come in
// pieces: its own room is not held against it.
func TestLargeFill(t *testing.T) {
	r, now, hot, fills := scanned(t)
	for _, p := range fills {
		closeIt(t, p)
	}
	now.forward(time.Second)
	p := r.openPartial(digest.FromString("large"))
	defer closeIt(t, p)
	for n := int64(100_000); n <= 700_000; n += 100_000 {
		if err := p.Reserve(t.Context(), n); err != nil {
			t.Fatalf("Reserve of %d bytes: %v", n, err)
		}
	}
	if n := r.stay(hot); n == 0 || n == len(hot) {
		t.Errorf("%d of %d that were read again are left", n, len(hot))
	}
}
