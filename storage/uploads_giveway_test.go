package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestGiveWay: what gives way does so for younger ones, too, before what was refused,
// and not once somebody goes on with it.
func TestGiveWay(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	var all []*storage.Upload
	for range 4 {
		u := r.newUpload(digest.SHA256)
		send(t, u, []byte("12345"))
		if err := u.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	all[0].GiveWay()
	all[1].GiveWay()
	send(t, all[1], []byte("6")) // it goes on
	if err := all[3].Refuse(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 3} {
		all[i].Release()
	}
	for i, c := range []struct {
		ended bool
		gone  int
	}{{true, 0}, {true, 3}, {false, -1}} {
		if got, err := all[2].EndYounger(t.Context()); got != c.ended || err != nil {
			t.Errorf("%d: %v, %v, want %v", i, got, err, c.ended)
		}
		if c.gone < 0 {
			continue
		}
		if _, err := r.OpenUpload(t.Context(), app, all[c.gone].ID()); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("upload %d: %v, want it gone", c.gone, err)
		}
	}
	u := r.openUpload(all[1].ID())
	u.Release()
	all[2].Release()
}
