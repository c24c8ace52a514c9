package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestSizeOfFile puts five manifests of 4 MiB and then many small ones and
// tags: the file has about their size, and not that of what is written again and
// again beside the large ones.
func TestSizeOfFile(t *testing.T) {
	const large, small = 5, 60
	repo := oci.Repo{Upstream: "local", Name: "app"}
	annotated := func(int) oci.Manifest {
		return oci.Manifest{MediaType: v1.MediaTypeImageManifest, Annotations: map[string]string{
			"text": strings.Repeat("x", oci.MaxManifestBytes-1000), "com.amazon.soci.index-digest": "kept",
		}}
	}
	many := func(i int) oci.Manifest {
		m := oci.Manifest{MediaType: v1.MediaTypeImageManifest}
		for j := range 2000 {
			m.Layers = append(m.Layers, v1.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString(fmt.Sprint(i, j)), Size: 1})
		}
		return m
	}
	for name, c := range map[string]struct {
		make  func(int) oci.Manifest
		limit int64 // bytes of the file: bbolt doubles it, and keeps what it was
	}{"an annotation": {annotated, 2 << 20}, "many layers": {many, 12 << 20}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meta.db")
			db := open(t, path, bolt.Options{NoSync: true})
			push := func(name, tag string, size int64, m oci.Manifest) {
				t.Helper()
				row := storage.ManifestRow{Digest: digest.FromString(name), Size: size, Manifest: m}
				err := db.Update(t.Context(), func(tx storage.Tx) error {
					return errors.Join(tx.PutManifest(row), tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: row.Digest}))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range large {
				push(fmt.Sprint("large ", i), fmt.Sprint("large", i), oci.MaxManifestBytes, c.make(i))
			}
			m := oci.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{{Digest: digest.FromString("layer")}}}
			for i := range small {
				push("one", fmt.Sprint("a", i), 500, m)
				push(fmt.Sprint("small ", i), fmt.Sprint("b", i), 500, m)
				push("large 0", fmt.Sprint("c", i), oci.MaxManifestBytes, c.make(0))
			}
			if info, err := os.Stat(path); err != nil || info.Size() > c.limit {
				t.Errorf("the file has %d bytes, %v; at most %d are enough", info.Size(), err, c.limit)
			}
		})
	}
}
