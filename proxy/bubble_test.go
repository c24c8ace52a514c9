package proxy

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// bubble is a proxy over a real store and without a network, for synctest: time
// stands still there until everybody waits.
type bubble struct {
	p      *Proxy
	store  *storage.Store
	up     *Upstream
	faults *storagetest.Faults
	meta   *gatedMeta
}

// gatedMeta are rows that are written when gate, if there is one, is closed.
type gatedMeta struct {
	storage.Meta
	gate    atomic.Pointer[chan struct{}]
	updates atomic.Int32
}

func (m *gatedMeta) Update(ctx context.Context, fn func(storage.Tx) error) error {
	m.updates.Add(1)
	if gate := m.gate.Load(); gate != nil {
		<-*gate
	}
	return m.Meta.Update(ctx, fn)
}

// newBubble is to be called within synctest.Test. g is the upstream "up".
func newBubble(t *testing.T, g Registry) *bubble {
	t.Helper()
	dir := t.TempDir()
	b := &bubble{faults: storagetest.NewFaults(dir)}
	blobs, err := disk.NewFS(dir, b.faults.FS(storagetest.NoSync{}))
	if err != nil {
		t.Fatal(err)
	}
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	b.meta = &gatedMeta{Meta: meta}
	b.store = storage.New(storage.Options{Blobs: blobs, Meta: b.meta})
	b.up = &Upstream{Name: "up", Registry: g, TagTTL: time.Hour, TagTimeout: time.Minute}
	life, end := context.WithCancel(context.Background())
	if b.p, err = New(life, Options{Store: b.store, Default: "up", Upstreams: []*Upstream{b.up}}); err != nil {
		t.Fatal(err)
	}
	storeLife, endStore := context.WithCancel(context.Background())
	var proxyRun, storeRun sync.WaitGroup
	proxyRun.Go(func() { _ = b.p.Run(life) })
	storeRun.Go(func() { _ = b.store.Run(storeLife) })
	t.Cleanup(func() {
		end()
		proxyRun.Wait()
		endStore()
		storeRun.Wait()
		if err := meta.Close(); err != nil {
			t.Errorf("close rows: %v", err)
		}
	})
	return b
}
