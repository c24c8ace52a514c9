package storage_test

import (
	"errors"
	"io"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestOpenRow opens blobs by a row that was read before: of what is here, what
// was purged since, and what was purged and came again.
func TestOpenRow(t *testing.T) {
	for _, c := range []struct {
		name         string
		purge, again bool
		want         error
	}{{"here", false, false, nil}, {"purged", true, false, storage.ErrNotFound}, {"here again", true, true, nil}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			body := storagetest.Bytes("x", 100000)
			d := r.mustPut(body, storage.KindBlob, storage.Durable)
			row, err := r.row(d)
			if err != nil {
				t.Fatal(err)
			}
			if c.purge {
				if _, err := r.Purge(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			if c.again {
				r.mustPut(body, storage.KindBlob, storage.Durable)
			}
			b, err := r.OpenRow(t.Context(), row)
			if !errors.Is(err, c.want) {
				t.Fatalf("OpenRow: %v, want %v", err, c.want)
			}
			if err != nil {
				r.wantNoGarbage()
				return
			}
			got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
			if err != nil || string(got) != string(body) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			r.wantUsage()
		})
	}
}
