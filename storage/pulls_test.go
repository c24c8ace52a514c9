package storage_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPulled: pulls by many clients at once are all counted once they are filed,
// those of what is no manifest are forgotten.
func TestPulled(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := storagetest.Start(t, t.TempDir(), storage.Options{Now: func() time.Time { return now }})
	d, none := digest.FromString("a manifest"), digest.FromString("none")
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.PutManifest(storage.ManifestRow{Digest: d}) }); err != nil {
		t.Fatal(err)
	}
	for round := range int64(2) {
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() { s.Pulled(d); s.Pulled(none) })
		}
		clients.Wait()
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := s.View(t.Context(), func(tx storage.Tx) error {
			row, err := tx.Pulls(d)
			if want := (storage.PullRow{Manifest: d, Pulls: 20 * (round + 1), Last: now}); row != want {
				t.Errorf("got %+v, want %+v", row, want)
			}
			if _, err := tx.Pulls(none); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("pulls of what is no manifest: %v, want ErrNotFound", err)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
