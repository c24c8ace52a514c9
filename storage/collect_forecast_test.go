package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestForecastOfFilesInUse: neither a collection nor the dry run before it takes a
// file for what a crash left that is being written, or that a row is about which
// can't be read.
func TestForecastOfFilesInUse(t *testing.T) {
	t.Run("a fill that was not filed yet", func(t *testing.T) {
		r := newRegistry(t, storage.Options{})
		d := digest.FromString("comes")
		p, err := r.OpenPartial(t.Context(), d)
		r.must(err)
		defer closeIt(t, p)
		writeAt(t, p, []byte("comes"), ranges(0, 5)...)
		if list, _ := r.collect(r.collector()); len(list) > 0 {
			t.Errorf("collected %v", list)
		}
		r.must(p.Promote(t.Context(), storage.KindBlob, 5))
	})
	t.Run("rows that can't be read", func(t *testing.T) {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		d := r.mustPut(kb("x", 5), storage.KindBlob, storage.Durable)
		r = r.spoil(storage.TableBlobs)
		for _, dry := range []bool{true, false} {
			c := storage.NewCollector(storage.CollectOptions{Store: r.Store})
			_, err := c.Collect(t.Context(), dry, func(x storage.Collected) { t.Errorf("dry %v: collected %+v", dry, x) })
			if !errors.Is(err, storage.ErrUnsure) {
				t.Errorf("dry %v: %v, want ErrUnsure", dry, err)
			}
		}
		r.check(true)
		r.wantServed("what was here", d)
	})
}
