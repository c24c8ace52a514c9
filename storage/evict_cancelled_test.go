package storage_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestEvictIsBrokenOff has whoever wants room leave in the middle of an eviction: an
// indexed layer goes with its hot spans kept, or not at all.
func TestEvictIsBrokenOff(t *testing.T) {
	for name, c := range map[string]struct {
		at   func(storagetest.Step) bool
		goes bool
	}{
		"never":                           {func(storagetest.Step) bool { return false }, true},
		"when what is plain has gone":     {func(s storagetest.Step) bool { return s.Op == "remove" && strings.HasPrefix(s.Name, "blobs") }, false},
		"when a span is about to be kept": {func(s storagetest.Step) bool { return s.Op == "create" && strings.HasPrefix(s.Name, "tmp") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			dir := t.TempDir()
			r := newRig(t, dir, nil, storage.Options{})
			r.mustPut(kb("plain", 50), storage.KindBlob, storage.Durable)
			l := storagetest.NewLayer(t, "x", 500_000, spanSize)
			l.Store(t, r.Store)
			if err := r.meta.Close(); err != nil {
				t.Fatal(err)
			}
			r = newRig(t, dir, storagetest.NewFaults(dir), storage.Options{MaxBytes: 50_000 + l.Row.Size + l.Row.ZTOCSize + 150_000})
			r.readSpans(l, 2, 3)
			w, err := r.Create(ctx)
			if err != nil {
				t.Fatal(err)
			}
			r.faults.Hook(func(s storagetest.Step) error {
				if c.at(s) {
					leave()
				}
				return nil
			})
			err = w.Reserve(ctx, 400_000)
			closeIt(t, w)
			r.faults.Hook(nil)
			_, lerr := r.Stat(t.Context(), l.Digest())
			spans := r.spansHere(l)
			if c.goes {
				if err != nil || !errors.Is(lerr, storage.ErrNotFound) || !slices.Equal(spans, []int{2, 3}) {
					t.Errorf("Reserve: %v; the layer: %v; spans %v are here, want 2 and 3", err, lerr, spans)
				}
			} else if !errors.Is(err, context.Canceled) || lerr != nil {
				t.Errorf("Reserve: %v, want %v; the layer, of which spans %v are here: %v", err, context.Canceled, spans, lerr)
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			r.wantUsage()
			r.wantNoGarbage()
		})
	}
}
