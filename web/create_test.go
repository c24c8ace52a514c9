package web

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// deaf is an Asker that never lists anything.
type deaf struct{}

func (deaf) Want(context.Context, oci.Repo, storage.ManifestRow, storage.Asked) error { return nil }
func (deaf) Progress(digest.Digest, int64) int64                                      { return 0 }

// TestCreateEnds: who waits for an index that nobody lists, though all its layers are
// through, is told, and who waits for a layer waits on.
func TestCreateEnds(t *testing.T) {
	layer := v1.Descriptor{Digest: digest.FromString("layer"), Size: 1 << 20}
	manifest := digest.FromString("manifest")
	for state, want := range map[storage.LayerState]error{
		storage.LayerIndexed: errUnlisted,
		storage.LayerWanted:  context.DeadlineExceeded,
	} {
		t.Run(string(state), func(t *testing.T) {
			s := storagetest.NewStore(t)
			if err := s.Put(t.Context(), storage.BlobRow{Digest: layer.Digest, Kind: storage.KindBlob}, []byte("layer"), nil); err != nil {
				t.Fatal(err)
			}
			err := s.Update(t.Context(), func(tx storage.Tx) error {
				row := storage.LayerRow{Digest: layer.Digest, SpanSize: 4 << 20, State: state}
				if state == storage.LayerIndexed {
					row.ZTOC = digest.FromString("ztoc")
				}
				return errors.Join(tx.PutLayer(row), tx.PutImage(storage.ImageRow{
					Manifest: v1.Descriptor{Digest: manifest}, Layers: []storage.ImageLayer{{Descriptor: layer, SpanSize: 4 << 20}},
				}))
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*publishedWithin)
				defer cancel()
				begun := time.Now()
				err := Creator{Store: s, Index: deaf{}}.wait(ctx, []digest.Digest{manifest}, func(CreateProgress) {})
				if !errors.Is(err, want) || errors.Is(want, errUnlisted) && time.Since(begun) > 2*publishedWithin {
					t.Errorf("%v after %v, want %v", err, time.Since(begun), want)
				}
			})
		})
	}
}
