package indexer

import (
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestOtherMediaType: two images name one layer with different media types.
// Whichever comes first, the layer is read in the way that works.
func TestOtherMediaType(t *testing.T) {
	plain := newTar(t, 1, 200<<10)
	zipped := compress(t, plain, gzip.Header{})
	junk := []byte(strings.Repeat("junk", 1000))
	const plainType = v1.MediaTypeImageLayer
	tests := []struct {
		name  string
		body  []byte
		types []string // of the images, in the order in which they come
		good  bool
	}{
		{"gzip, right first", zipped, []string{gzipLayer, plainType}, true},
		{"gzip, wrong first", zipped, []string{plainType, gzipLayer}, true},
		{"tar, right first", plain, []string{plainType, gzipLayer}, true},
		{"tar, wrong first", plain, []string{gzipLayer, plainType}, true},
		{"neither", junk, []string{gzipLayer, plainType, gzipLayer, plainType}, false},
	}
	for _, tt := range tests {
		for _, together := range []bool{false, true} {
			for way, pull := range map[string]func(*world){
				"tap":   func(w *world) { w.tap(tt.body); w.settle(); w.tap(tt.body) },
				"whole": func(w *world) { w.whole(tt.body) },
			} {
				t.Run(fmt.Sprintf("%s, %s, together %v", tt.name, way, together), func(t *testing.T) {
					inBubble(t, func(t *testing.T) {
						w := start(t, t.TempDir(), Options{Rules: everything}, nil)
						var images []*image
						for i, mt := range tt.types {
							img := typedImage(t, fmt.Sprint(tt.name, i), []string{mt}, tt.body)
							images = append(images, img)
							w.manifest(redis, img)
							if !together {
								pull(w)
								w.settle()
							}
						}
						pull(w)
						w.settle()
						for _, img := range images {
							if tt.good {
								w.wantIndex(img, tt.body)
							} else {
								w.wantNoIndex(img)
							}
						}
						row := w.layer(digest.FromBytes(tt.body))
						if !tt.good && (row.State != storage.LayerSkipped || strings.Count(row.Reason, " as ") != 2) {
							t.Errorf("layer is %s, %q", row.State, row.Reason)
						}
						if jobs := w.jobs(); len(jobs) > 0 {
							t.Errorf("jobs left: %+v", jobs)
						}
					})
				})
			}
		}
	}
}

// TestSharedZTOC: layers that differ in their gzip header alone have one zTOC;
// who may read the second layer may read it too.
func TestSharedZTOC(t *testing.T) {
	body := newTar(t, 1, 200<<10)
	a := compress(t, body, gzip.Header{ModTime: time.Unix(1, 0)})
	b := compress(t, body, gzip.Header{ModTime: time.Unix(2, 0)})
	secret := oci.Repo{Upstream: "quay.io", Name: "team/secret"}
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		first, second := newImage(t, "first", a), newImage(t, "second", b)
		w.manifest(redis, first)
		w.manifest(secret, second)
		w.tap(a)
		w.settle()
		err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.PutRight(secret, digest.FromBytes(b)) })
		w.check("put right", err)
		w.tap(b)
		w.settle()
		w.wantIndex(first, a)
		w.wantIndex(second, b)
		zTOC := w.layer(digest.FromBytes(b)).ZTOC
		w.view(func(tx storage.Tx) error {
			row, err := tx.Blob(zTOC)
			if row.Of != digest.FromBytes(a) {
				t.Errorf("zTOC is of %s, want the first layer", row.Of)
			}
			if has, err := tx.HasRight(secret, zTOC); !has || err != nil {
				t.Errorf("right of the second repository: %v, %v", has, err)
			}
			if has, err := tx.HasRight(redis, zTOC); has || err != nil {
				t.Errorf("explicit right of the first: %v, %v", has, err)
			}
			return err
		})
	})
}
