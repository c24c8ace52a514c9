package storage_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// hooks are rows between whose transactions a test does something else, each
// thing once.
type hooks struct {
	storage.Meta
	scanned atomic.Pointer[func()]       // after a View that went through all blobs
	before  atomic.Pointer[func()]       // before an Update
	after   atomic.Pointer[func() error] // after an Update that is stored: its error is the Update's
}

func (h *hooks) View(ctx context.Context, fn func(storage.Tx) error) error {
	scanned := false
	err := h.Meta.View(ctx, func(tx storage.Tx) error { return fn(scanTx{tx, &scanned}) })
	if scanned {
		if then := h.scanned.Swap(nil); then != nil {
			(*then)()
		}
	}
	return err
}

type scanTx struct {
	storage.Tx
	scanned *bool
}

func (t scanTx) Blobs(fn func(storage.BlobRow) error) error {
	*t.scanned = true
	return t.Tx.Blobs(fn)
}

func (h *hooks) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if then := h.before.Swap(nil); then != nil {
		(*then)()
	}
	err := h.Meta.Update(ctx, fn)
	if then := h.after.Swap(nil); then != nil && err == nil {
		err = (*then)()
	}
	return err
}

// newHookedRig is newRig over hooks.
func newHookedRig(t *testing.T, o storage.Options) (*rig, *hooks) {
	t.Helper()
	dir := t.TempDir()
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatalf("open rows: %v", err)
	}
	t.Cleanup(func() { _ = meta.Close() })
	d, err := disk.NewFS(dir, storagetest.NoSync{})
	if err != nil {
		t.Fatalf("open blobs: %v", err)
	}
	h := &hooks{Meta: meta}
	o.Meta, o.Blobs = h, d
	return &rig{Store: storage.New(o), t: t, dir: dir, disk: d, meta: meta}, h
}
