package web

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestUnpinUnreadable unpins by the name that a check tells.
func TestUnpinUnreadable(t *testing.T) {
	const name = "docker.io/library/redis:7"
	dir, d := t.TempDir(), digest.FromString("redis")
	s, stop := storagetest.Open(t, dir, storage.Options{})
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutPin(storage.PinRow{Reference: name, Root: d, Holds: []digest.Digest{d}})
	})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	storagetest.SpoilRows(t, filepath.Join(dir, "meta.db"), nil)
	s = storagetest.Start(t, dir, storage.Options{})
	for _, other := range []string{"", "docker.io/library/redis:8", "a\x00b"} {
		if _, err := Unpin(t.Context(), s, other); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Unpin %q: %v, want ErrNotFound", other, err)
		}
	}
	if p, err := Unpin(t.Context(), s, name); err != nil || p.Reference != name {
		t.Errorf("Unpin: %+v, %v", p, err)
	}
	if _, err := Unpin(t.Context(), s, name); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Unpin again: %v, want ErrNotFound", err)
	}
}
