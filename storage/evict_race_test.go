package storage_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// waysToKeep are all that has a cached blob stay, whoever wants room.
func waysToKeep() map[string]func(*rig, digest.Digest, []byte) error {
	content := func(d digest.Digest, body []byte) func(storage.Tx) error {
		return func(tx storage.Tx) error {
			return tx.PutContent(storage.ContentRow{Repo: app, Digest: d, Size: int64(len(body))})
		}
	}
	return map[string]func(*rig, digest.Digest, []byte) error{
		"mount": func(r *rig, d digest.Digest, body []byte) error {
			return r.Host(r.t.Context(), d, content(d, body))
		},
		"push": func(r *rig, d digest.Digest, body []byte) error {
			u, err := r.NewUploadBy(r.t.Context(), "", 0, app, digest.SHA256)
			if err != nil {
				return err
			}
			defer u.Release()
			if _, err := u.Write(r.t.Context(), body); err != nil {
				return err
			}
			if err := u.Matches(r.t.Context(), d); err != nil {
				return err
			}
			return u.Commit(r.t.Context(), d, storage.KindHosted, content(d, body))
		},
		"pin": func(r *rig, d digest.Digest, _ []byte) error {
			return r.Update(r.t.Context(), func(tx storage.Tx) error {
				if _, err := tx.Blob(d); err != nil {
					return err
				}
				return tx.PutPin(storage.PinRow{Reference: d.Encoded(), Root: d, Holds: []digest.Digest{d}})
			})
		},
	}
}

// TestEvictChosen has a blob that was chosen to go become one that stays before
// it goes.
func TestEvictChosen(t *testing.T) {
	for how, keep := range waysToKeep() {
		t.Run(how, func(t *testing.T) {
			r, hooks := newHookedRig(t, storage.Options{MaxBytes: 10_000})
			body := kb("x", 3)
			d := r.mustPut(body, storage.KindBlob, storage.Durable)
			w, err := r.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer closeIt(t, w)
			var kept error
			meanwhile := func() { kept = keep(r, d, body) }
			hooks.scanned.Store(&meanwhile)
			if err := w.Reserve(t.Context(), 8000); !errors.Is(err, storage.ErrFull) {
				t.Errorf("Reserve: %v, want ErrFull", err)
			}
			if kept != nil {
				t.Fatalf("%s: %v", how, kept)
			}
			r.wantServed("what became content meanwhile", d)
			r.wantUsage()
		})
	}
}

// TestEvictChosenGone has a blob that was chosen to go be purged before it goes.
func TestEvictChosenGone(t *testing.T) {
	r, hooks := newHookedRig(t, storage.Options{MaxBytes: 10_000})
	d := r.mustPut(kb("x", 3), storage.KindBlob, storage.Durable)
	meanwhile := func() {
		if _, err := r.Purge(t.Context(), d); err != nil {
			t.Errorf("Purge: %v", err)
		}
	}
	hooks.scanned.Store(&meanwhile)
	w, err := r.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Reserve(t.Context(), 8000); err != nil {
		t.Errorf("Reserve: %v", err)
	}
	closeIt(t, w)
	r.wantUsage()
}

// TestEvictStoredButFailed has the rows go and yet hears that they did not.
func TestEvictStoredButFailed(t *testing.T) {
	r, hooks := newHookedRig(t, storage.Options{MaxBytes: 10_000})
	d := r.mustPut(kb("x", 8), storage.KindBlob, storage.Durable)
	w, err := r.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fail := func() error { return errShaky }
	hooks.after.Store(&fail)
	if err := w.Reserve(t.Context(), 8000); !errors.Is(err, errShaky) {
		t.Errorf("Reserve: %v, want %v", err, errShaky)
	}
	r.wantAbsent("what was evicted", d)
	r.wantUsage()
	if err := w.Reserve(t.Context(), 8000); err != nil {
		t.Errorf("Reserve again: %v", err)
	}
	closeIt(t, w)
	r.wantNoGarbage()
}

// TestEvictRaces has a store that is full all the time be pushed to, mounted from
// and pinned in: what was acknowledged stays, and the account is right.
func TestEvictRaces(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 400_000})
	var mu sync.Mutex
	kept := map[digest.Digest]string{}
	var wg sync.WaitGroup
	for how, keep := range waysToKeep() {
		wg.Go(func() {
			for i := range 25 {
				body := kb(fmt.Sprint(how, i), 3)
				d := digest.FromBytes(body)
				if _, err := r.put(body, storage.KindBlob, storage.Durable); err != nil {
					t.Errorf("put: %v", err)
					continue
				}
				for range 4 { // it may be evicted by then
					_, _ = r.put(kb(fmt.Sprint(how, i, time.Now()), 40), storage.KindBlob, storage.Durable)
				}
				if err := keep(r, d, body); err == nil {
					mu.Lock()
					kept[d] = how
					mu.Unlock()
				} else if !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("%s: %v", how, err)
				}
			}
		})
	}
	wg.Wait()
	for d, how := range kept {
		r.wantServed(how, d)
	}
	if len(kept) < 25 { // every push, at least
		t.Errorf("%d were kept", len(kept))
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	r.wantUsage()
}
