package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestEvictBesideUnreadablePin fills a store of which the oldest blobs are held by a
// pin that can't be read: those stay, and others go.
func TestEvictBesideUnreadablePin(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	var ds []digest.Digest
	for i := range 5 {
		ds = append(ds, r.mustPut(kb(fmt.Sprint("pinned ", i), 100), storage.KindBlob, storage.Durable))
	}
	err := r.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutPin(storage.PinRow{Reference: "x", Root: ds[0], Holds: ds})
	})
	if err != nil {
		t.Fatal(err)
	}
	r = r.spoil(storage.TablePins).reopen(storage.Options{MaxBytes: 1_000_000})
	for i := range 15 {
		if _, err := r.put(kb(fmt.Sprint("after ", i), 100), storage.KindBlob, storage.Durable); err != nil {
			t.Errorf("put %d: %v", i, err)
		}
	}
	for _, d := range ds {
		r.wantServed("what is pinned", d)
	}
}

// TestPutBesideUnreadablePin brings a manifest again that a pin holds which can't be
// read. It holds what it held.
func TestPutBesideUnreadablePin(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	blob := r.mustPut(kb("blob", 1), storage.KindBlob, storage.Durable)
	image := r.putManifest("image", []digest.Digest{blob}, nil)
	index := r.putManifest("index", nil, []digest.Digest{image})
	if _, err := r.Pin(t.Context(), "x", index); err != nil {
		t.Fatal(err)
	}
	r = r.spoil(storage.TablePins)
	r.putManifest("image", []digest.Digest{blob}, nil)
	err := r.View(t.Context(), func(tx storage.Tx) error {
		for _, d := range []digest.Digest{blob, image, index} {
			if pinned, err := tx.Pinned(d); !pinned || err != nil {
				t.Errorf("%s is pinned: %t, %v", d, pinned, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnpinUnreadable unpins what can't be read, as a check advises.
func TestUnpinUnreadable(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	d := r.mustPut(kb("blob", 1), storage.KindBlob, storage.Durable)
	err := r.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutPin(storage.PinRow{Reference: "x", Root: d, Holds: []digest.Digest{d}})
	})
	if err != nil {
		t.Fatal(err)
	}
	r = r.spoil(storage.TablePins)
	if err := r.Unpin(t.Context(), "x"); err != nil {
		t.Errorf("Unpin: %v", err)
	}
	if err := r.Unpin(t.Context(), "x"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Unpin again: %v, want ErrNotFound", err)
	}
	err = r.View(t.Context(), func(tx storage.Tx) error {
		if pinned, err := tx.Pinned(d); pinned || err != nil {
			t.Errorf("pinned after all: %t, %v", pinned, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := r.check(true); len(found) > 0 {
		t.Errorf("found %q", found)
	}
}
