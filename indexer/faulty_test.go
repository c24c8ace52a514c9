package indexer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
)

var errFault = errors.New("injected fault")

// faulty counts writes to a store and lets some of them go wrong.
type faulty struct {
	Store
	writes atomic.Int64
	// fault, if not nil, is asked about the nth write (from 1): whether it
	// fails, and whether it was done all the same.
	fault func(n int64) (fails, done bool)
}

func (f *faulty) write(do func() error) error {
	n := f.writes.Add(1)
	var fails, done bool
	if f.fault != nil {
		fails, done = f.fault(n)
	}
	var err error
	if !fails || done {
		err = do()
	}
	if fails {
		return errFault
	}
	return err
}

func (f *faulty) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return f.write(func() error { return f.Store.Update(ctx, fn) })
}

func (f *faulty) Put(ctx context.Context, row storage.BlobRow, body []byte, more func(storage.Tx) error) error {
	return f.write(func() error { return f.Store.Put(ctx, row, body, more) })
}

func (f *faulty) Create(ctx context.Context) (w *storage.Writer, err error) {
	err = f.write(func() error {
		w, err = f.Store.Create(ctx)
		return err
	})
	if err != nil && w != nil {
		_ = w.Close()
		w = nil
	}
	return w, err
}

func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	return testutil.ToFloat64(c)
}

// fullStore has no room for small blobs while broken is set.
type fullStore struct {
	Store
	broken *atomic.Bool
}

func (f *fullStore) Put(ctx context.Context, row storage.BlobRow, body []byte, more func(storage.Tx) error) error {
	if f.broken.Load() {
		return storage.ErrFull
	}
	return f.Store.Put(ctx, row, body, more)
}

// hookedStore calls before ahead of each Put.
type hookedStore struct {
	Store
	before func(storage.BlobRow)
}

func (h *hookedStore) Put(ctx context.Context, row storage.BlobRow, body []byte, more func(storage.Tx) error) error {
	h.before(row)
	return h.Store.Put(ctx, row, body, more)
}
