package indexer

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestRetiredAndKept has an index that is listed no more be pushed to a hosted
// repository, with a zTOC, or be pinned: it stays.
func TestRetiredAndKept(t *testing.T) {
	repo := oci.Repo{Upstream: "local", Name: "copy"}
	for name, keep := range map[string]func(tx storage.Tx, index storage.ManifestRow) error{
		"": func(storage.Tx, storage.ManifestRow) error { return nil },
		"hosted": func(tx storage.Tx, index storage.ManifestRow) error {
			return errors.Join(
				tx.PutContent(storage.ContentRow{Repo: repo, Digest: index.Digest, Size: index.Size, Manifest: true}),
				tx.PutTag(storage.TagRow{Repo: repo, Tag: "v1", Digest: index.Digest}))
		},
		"pinned": func(tx storage.Tx, index storage.ManifestRow) error {
			return tx.PutPin(storage.PinRow{Reference: "x", Root: index.Digest, Holds: []digest.Digest{index.Digest}})
		},
	} {
		inBubble(t, func(t *testing.T) {
			w, s := startSupplied(t, t.TempDir(), "buildkit", Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536})
			source := s.pull(t, "7", "linux/amd64")
			w.settle()
			one, _ := w.conversion(source)
			w.check(name, w.store.Update(t.Context(), func(tx storage.Tx) error {
				row, err := tx.Manifest(one.Index.Digest)
				return errors.Join(err, keep(tx, row))
			}))
			s.pull(t, "7", "linux/arm/v7", "linux/arm64")
			w.settle()
			time.Sleep(25 * time.Hour)
			w.settle()
			if _, err := w.store.Stat(t.Context(), one.Index.Digest); errors.Is(err, storage.ErrNotFound) != (name == "") {
				t.Errorf("retired, %q: %v", name, err)
			}
			w.check("retired", w.store.View(t.Context(), func(tx storage.Tx) error {
				return tx.Retired(func(row storage.RetiredRow) error { t.Errorf("%q: still retired: %v", name, row.Digest); return nil })
			}))
			all, _ := w.conversion(source)
			for _, m := range all.Made {
				w.read(m.Digest)
			}
		})
	}
}
