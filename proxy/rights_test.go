package proxy

import (
	"testing"
	"testing/synctest"
	"time"

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

// TestRightIsWrittenOnce: what is proven again and again, as by each transfer of a
// blob that is read by ranges, is written once, and again where it counts no more.
func TestRightIsWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, nil)
		repo, d := oci.Repo{Upstream: "up", Name: "a"}, digest.FromString("x")
		time.Sleep(time.Second) // the store has begun
		proven := func(name string, times int, want int32) {
			t.Helper()
			before := b.meta.updates.Load()
			for range times {
				b.p.grant(b.up, repo, d)
				time.Sleep(time.Second)
			}
			if got := b.meta.updates.Load() - before; got != want {
				t.Errorf("%s: %d transactions, want %d", name, got, want)
			}
			err := b.store.View(t.Context(), func(tx storage.Tx) error {
				ok, err := tx.HasRight(repo, d)
				if !ok {
					t.Errorf("%s: no row", name)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		proven("at first", 20, 1)
		if err := b.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteRight(repo, d) }); err != nil {
			t.Fatal(err)
		}
		proven("forgotten", 20, 1)
		b.p.rights.void(repo.Upstream, true)
		proven("outlived", 1, 1)
		b.p.rights.void(repo.Upstream, false)
		proven("counting again", 1, 0)
	})
}
