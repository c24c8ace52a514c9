package indexer

import (
	"testing"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// wantConfig wants repo's callers to be able to read the config of its indexes.
func (w *world) wantConfig(repo oci.Repo) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		if ok, err := tx.HasRight(repo, oci.EmptyDigest); err != nil || !ok {
			w.t.Errorf("%s has no right to {}: %v", repo, err)
		}
		return nil
	})
}

// TestConfigIsRead: wherever an index can be read its config can: in a repository that
// came to have the image when the index was there, and where it is offered as v2 alone.
func TestConfigIsRead(t *testing.T) {
	t.Run("v1", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w := start(t, t.TempDir(), Options{Rules: everything}, nil)
			a := newLayer(t, 1)
			img := newImage(t, "img", a)
			w.manifest(redis, img)
			w.whole(a)
			w.settle()
			w.wantIndex(img, a)
			w.wantConfig(redis)
			other := oci.Repo{Upstream: "local", Name: "app"}
			w.manifest(other, img)
			w.settle()
			w.wantConfig(other)
		})
	})
	t.Run("v2", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w, s := startSupplied(t, t.TempDir(), "buildkit", Rule{Repositories: []string{"redis"}, SpanSize: 64 << 10, Publish: PublishV2})
			source := s.pull(t, "7", "linux/amd64")
			w.settle()
			if _, ok := w.conversion(source); !ok {
				t.Fatal("it is not converted")
			}
			w.wantConfig(redis)
		})
	})
}
