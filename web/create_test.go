package web

import (
	"context"
	"errors"
	"fmt"
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
type deaf struct{ offers bool }

func (deaf) Want(context.Context, oci.Repo, storage.ManifestRow, storage.Asked) error { return nil }
func (deaf) Progress(digest.Digest, int64) int64                                      { return 0 }
func (d deaf) Offers(storage.Tx, oci.Repo, digest.Digest) (bool, error)               { return d.offers, nil }

// TestCreateEnds: who waits for an index that nobody lists, though all its layers are
// through, is told, and who waits for a layer waits on.
func TestCreateEnds(t *testing.T) {
	layer := v1.Descriptor{Digest: digest.FromString("layer"), Size: 1 << 20}
	manifest := digest.FromString("manifest")
	for _, tt := range []struct {
		state  storage.LayerState
		offers bool
		want   error
		within time.Duration
	}{
		{storage.LayerIndexed, true, errUnlisted, 2 * publishedWithin},
		{storage.LayerIndexed, false, errNotOffered, pollEvery},
		{storage.LayerWanted, true, context.DeadlineExceeded, time.Hour},
	} {
		t.Run(fmt.Sprint(tt.state, tt.offers), func(t *testing.T) {
			s := storagetest.NewStore(t)
			if err := s.Put(t.Context(), storage.BlobRow{Digest: layer.Digest, Kind: storage.KindBlob}, []byte("layer"), nil); err != nil {
				t.Fatal(err)
			}
			err := s.Update(t.Context(), func(tx storage.Tx) error {
				row := storage.LayerRow{Digest: layer.Digest, SpanSize: 4 << 20, State: tt.state}
				if tt.state == storage.LayerIndexed {
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
				err := Creator{Store: s, Index: deaf{tt.offers}}.wait(ctx, Found{Manifests: []digest.Digest{manifest}}, func(CreateProgress) {})
				if took := time.Since(begun); !errors.Is(err, tt.want) || took > tt.within {
					t.Errorf("%v after %v, want %v within %v", err, took, tt.want, tt.within)
				}
			})
		})
	}
}
