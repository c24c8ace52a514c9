package proxy

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestRightWrittenMeanwhile: a right that becomes a row while a lookup is under
// way is seen by it; else the upstream would be asked what it has just answered.
func TestRightWrittenMeanwhile(t *testing.T) {
	s := newServer(t, newRegistry(t), nil)
	repo, d := oci.Repo{Upstream: "up", Name: "a"}, digest.FromString("x")
	err := s.store.View(t.Context(), func(tx storage.Tx) error {
		s.p.rights.mu.Lock()
		s.p.rights.pending[right{repo, d}] = struct{}{} // as grant does, but nobody is woken
		s.p.rights.mu.Unlock()
		s.p.flushRights(t.Context())
		ok, err := s.p.has(tx, repo, d, "")
		if !ok {
			t.Error("neither pending nor a row")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.store.View(t.Context(), func(tx storage.Tx) error {
		ok, err := tx.HasRight(repo, d)
		if !ok {
			t.Error("no row was written")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
