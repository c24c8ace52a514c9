package storage_test

import (
	"sync"
	"testing"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestHeatWaitsForNoWrite notes what is read while what was read before is being
// written to the rows, which takes for ever: who reads does not wait for that, and
// nothing of it is lost.
func TestHeatWaitsForNoWrite(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 300_000, spanSize)
	dir := t.TempDir()
	r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{})
	l.Store(t, r.Store)
	r.readSpans(l, 1, 1)
	writing, done := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(writing) })
	r.faults.Hook(func(s storagetest.Step) error {
		if s.Op == "update" {
			begin()
			<-done
		}
		return nil
	})
	var filing sync.WaitGroup
	filing.Go(func() {
		if err := r.Flush(t.Context()); err != nil {
			t.Errorf("Flush: %v", err)
		}
	})
	<-writing
	for range 100 {
		r.Heat(l.Digest(), oci.Range{Off: l.Table.Span(2).Off, End: l.Table.Span(2).End})
	}
	close(done)
	filing.Wait()
	r.faults.Hook(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	row := r.heat(l)
	if len(row.Spans) < 3 || row.Spans[1].Reads == 0 || row.Spans[2].Reads == 0 {
		t.Errorf("filed: %+v", row.Spans)
	}
}
