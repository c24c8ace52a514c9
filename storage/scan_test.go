package storage_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// putMany puts n blobs of 50,000 bytes, by the names that they get.
func (r *rig) putMany(name string, n int, kind storage.Kind) map[string]digest.Digest {
	many := map[string]digest.Digest{}
	for i := range n {
		name := fmt.Sprint(name, i)
		many[name] = r.mustPut(kb(name, 50), kind, storage.Durable)
	}
	return many
}

// wantAllServed reads each of them.
func (r *rig) wantAllServed(many map[string]digest.Digest) {
	r.t.Helper()
	for name, d := range many {
		r.wantServed(name, d)
	}
}

// TestScan has one-time pulls of three times the cache pass by. What was read
// again before stays, whether or not it is read meanwhile.
func TestScan(t *testing.T) {
	for _, kind := range []storage.Kind{storage.KindBlob, storage.KindSpan} {
		t.Run(string(kind), func(t *testing.T) {
			now := &clock{t: noon}
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Now: now.now})
			hot := r.putMany("hot", 12, kind)
			now.forward(time.Hour)
			r.wantAllServed(hot)
			for i := range 60 {
				now.forward(time.Minute)
				name := fmt.Sprint("once", i)
				d := r.mustPut(kb(name, 50), kind, storage.Durable)
				r.wantServed(name, d) // by the pull that brought it
			}
			for name, d := range hot {
				if _, err := r.Stat(t.Context(), d); err != nil {
					t.Errorf("%s was flushed: %v", name, err)
				}
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			r.wantUsage()
		})
	}
}

// TestWantsChange has other blobs be wanted than before: they take the place of
// those that nobody wants any more, although there are always new ones.
func TestWantsChange(t *testing.T) {
	now := &clock{t: noon}
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Now: now.now})
	old := r.putMany("old", 18, storage.KindBlob)
	now.forward(time.Hour)
	r.wantAllServed(old)
	fetched := 0
	for round := range 5 { // twelve, one after another, again and again
		fetched = 0
		for i := range 12 {
			now.forward(10 * time.Minute)
			body := kb(fmt.Sprint("new", i), 50)
			if _, err := r.read(digest.FromBytes(body)); errors.Is(err, storage.ErrNotFound) {
				fetched++
				r.mustPut(body, storage.KindBlob, storage.Durable)
			} else if err != nil {
				t.Fatalf("round %d: read: %v", round, err)
			}
		}
	}
	if fetched > 0 {
		t.Errorf("%d of the 12 that are wanted are still fetched each time", fetched)
	}
}

// TestReadOnceGoesFirst compares by what was read again, and then by age.
func TestReadOnceGoesFirst(t *testing.T) {
	for _, c := range []struct {
		name        string
		again       []string // of a to h, read an hour after they came
		gone, stays []string
	}{
		{"by age", nil, []string{"a", "b"}, []string{"c", "h"}},
		{"the old ones were read again", []string{"a", "b", "c"}, []string{"d", "e"}, []string{"a", "b", "c", "f", "h"}},
		{"all were read again", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, []string{"a", "b"}, []string{"c", "h"}},
		{"one was not, and may stay", []string{"a", "b", "c", "d", "e", "f", "g"}, []string{"h", "a"}, []string{"b", "g"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := &clock{t: noon}
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 800_000, Now: now.now})
			ds := map[string]digest.Digest{}
			for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
				now.forward(time.Second)
				ds[name] = r.mustPut(kb(name, 100), storage.KindBlob, storage.Durable)
			}
			now.forward(time.Hour)
			for _, name := range c.again {
				now.forward(time.Second)
				r.wantServed(name, ds[name])
			}
			r.mustPut(kb("new", 150), storage.KindBlob, storage.Durable)
			for _, name := range c.gone {
				r.wantAbsent(name, ds[name])
			}
			for _, name := range c.stays {
				r.wantServed(name, ds[name])
			}
		})
	}
}
