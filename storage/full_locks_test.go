package storage_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// after gives content of n thousand bytes whose digest is higher than d: the
// background commit locks it after d.
func after(d digest.Digest, n int) ([]byte, digest.Digest) {
	for i := 0; ; i++ {
		body := kb(fmt.Sprint("after", i), n)
		if x := digest.FromBytes(body); x > d {
			return body, x
		}
	}
}

// TestFullMediumNobodyWaits has the row of a pushed blob be refused for want of
// room while the background commit holds a span of the layer that is to make it,
// and waits for the blob: who evicts must not wait for the span.
func TestFullMediumNobodyWaits(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 1_000_000, spanSize)
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	r := newRig(t, dir, faults, storage.Options{})
	l.Store(t, r.Store)
	r.readSpans(l, 1, 2)
	if err := r.FileReads(t.Context()); err != nil {
		t.Fatal(err)
	}
	sp := l.Table.Span(1)
	body, x := after(sp.Digest, 5)
	r.mustPut(body, storage.KindBlob, storage.Cached)
	r.mustPut(l.Body[sp.Off:sp.End], storage.KindSpan, storage.Cached)

	done := make(chan error, 2)
	var once sync.Once
	faults.Hook(func(s storagetest.Step) (err error) {
		if s.Op != "update" {
			return nil
		}
		once.Do(func() {
			go func() { done <- r.Flush(t.Context()) }()
			for deadline := time.Now().Add(time.Minute); !r.Locked(sp.Digest); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Error("the background commit does not lock the span")
					break
				}
			}
			err = fmt.Errorf("%w: %w", storage.ErrFull, syscall.ENOSPC) // as package bolt says it
		})
		return err
	})
	go func() { _, err := r.put(body, storage.KindHosted, storage.Durable); done <- err }()
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("both wait for ever")
		}
	}
	r.wantAbsent("the layer", l.Digest())
	r.wantServed("what was pushed", x)
	for i := 1; i <= 2; i++ {
		r.wantServed(fmt.Sprint("span ", i, ", which was read"), l.Table.Span(i).Digest)
	}
	r.wantUsage()
}
