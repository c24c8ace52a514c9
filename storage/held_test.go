package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// TestPinsKeepOut asks for more than pins leave, of which no search has told yet how
// much they keep: it is refused at no blob's cost, by the limit and by the floor of
// free space, and what they do leave is to be had.
func TestPinsKeepOut(t *testing.T) {
	const limit = 1_000_000
	for name, o := range map[string]storage.Options{
		"a limit": {MaxBytes: limit},
		"a floor": {MinFree: limit},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			blobs, err := disk.NewFS(dir, &meter{total: 2 * limit})
			if err != nil {
				t.Fatal(err)
			}
			o.Blobs = blobs
			r := newRig(t, dir, nil, o)
			for i := range 2 {
				r.pin(r.mustPut(kb(fmt.Sprint("pinned", i), 200), storage.KindBlob, storage.Durable))
			}
			cached := r.mustPut(kb("cached", 400), storage.KindBlob, storage.Durable)
			waiting := r.mustPut(kb("waits to be durable", 100), storage.KindBlob, storage.Cached)
			most := int64(600_000)
			if o.MinFree > 0 {
				most += 4 * 64 << 10 // a file may take more than its bytes
			}
			p := r.openPartial(digest.FromString("x"))
			defer closeIt(t, p)
			for range 2 { // what pins keep is not known, and known
				if err := p.Reserve(t.Context(), most+1); !errors.Is(err, storage.ErrFull) {
					t.Fatalf("Reserve of more than pins leave: %v, want ErrFull", err)
				}
				r.wantServed("what is cached", cached)
				r.wantServed("what waits to be durable", waiting)
			}
			if err := p.Reserve(t.Context(), 600_000); err != nil {
				t.Errorf("Reserve of what pins leave: %v", err)
			}
			r.wantAbsent("what is cached", cached)
			r.wantUsage()
		})
	}
}
