package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestPurgeUnneeded removes an index only when nobody needs it, and leaves the
// account right also where the write of rows fails and yet is stored.
func TestPurgeUnneeded(t *testing.T) {
	r, hooks := newHookedRig(t, storage.Options{})
	body := kb("index", 5)
	d := r.mustPut(body, storage.KindIndex, storage.Durable)
	purge := func(needed, wantGone bool, what string) {
		t.Helper()
		gone, err := r.PurgeUnneeded(t.Context(), d, func(storage.Tx) (bool, error) { return needed, nil })
		if gone != wantGone || err != nil {
			t.Errorf("%s: gone %t, %v, want %t", what, gone, err, wantGone)
		}
	}
	update := func(fn func(storage.Tx) error) {
		t.Helper()
		if err := r.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	purge(true, false, "needed")
	update(content(app, d, len(body)))
	purge(false, false, "hosted")
	update(func(tx storage.Tx) error {
		return errors.Join(tx.DeleteContent(app, d), tx.PutPin(storage.PinRow{Reference: "x", Root: d, Holds: []digest.Digest{d}}))
	})
	purge(false, false, "pinned")
	r.wantServed("what is needed", d)
	update(func(tx storage.Tx) error { return tx.DeletePin("x") })
	fail := func() error { return errShaky }
	hooks.after.Store(&fail)
	if gone, err := r.PurgeUnneeded(t.Context(), d, nil); !gone || !errors.Is(err, errShaky) {
		t.Errorf("stored but failed: gone %t, %v, want %v", gone, err, errShaky)
	}
	r.wantAbsent("what nobody needs", d)
	purge(false, true, "gone")
	r.wantUsage()
	r.wantNoGarbage()
}
