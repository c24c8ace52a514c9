package storage_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestTransfersShareRoom: transfers into one partial that begin while room is made for
// the first of them need no other: what each asks for has all of them in it.
func TestTransfersShareRoom(t *testing.T) {
	const kB = 1000
	for name, tt := range map[string]struct {
		size int64
		use  func(t *testing.T, p *storage.Partial, size int64) error
		left int // of the 24 blobs of 4 kB that fill 96 of 100 kB
	}{
		"reserved, a little": {16 * kB, reserve, 21},
		"reserved, much":     {60 * kB, reserve, 10},
		"written":            {16 * kB, write, 21},
	} {
		t.Run(name, func(t *testing.T) {
			r, h := newHookedRig(t, storage.Options{MaxBytes: 100 * kB})
			for i := range 24 {
				r.mustPut(kb(fmt.Sprint(i), 4), storage.KindBlob, storage.Durable)
			}
			p := r.openPartial(digest.FromString("x"))
			var all, begun sync.WaitGroup
			errs := make([]error, 4)
			first := func() { // evicting for the first one
				for i := 1; i < len(errs); i++ {
					begun.Add(1)
					all.Go(func() {
						begun.Done()
						errs[i] = tt.use(t, p, tt.size)
					})
				}
				begun.Wait()
			}
			h.before.Store(&first)
			errs[0] = tt.use(t, p, tt.size)
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Errorf("room for %d bytes in all: %v", tt.size, err)
			}
			if got := r.Usage().Blobs[storage.KindBlob]; got != int64(tt.left) {
				t.Errorf("%d blobs are left, want %d", got, tt.left)
			}
			closeIt(t, p)
			r.wantUsage()
		})
	}
}

func reserve(t *testing.T, p *storage.Partial, size int64) error { return p.Reserve(t.Context(), size) }

func write(_ *testing.T, p *storage.Partial, size int64) error {
	_, err := p.WriteAt(make([]byte, size), 0)
	return err
}
