package storage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// copied is an image in gcApp, and what was made of it and pushed to a repository.
type copied struct {
	*registry
	image, layer, zTOC, soci, converted, list digest.Digest
}

func newCopied(t *testing.T, to oci.Repo) *copied {
	t.Helper()
	r := newRegistry(t, storage.Options{})
	x := &copied{registry: r, layer: digest.FromString("layer of image")}
	x.image = r.image(gcApp, "image", "1", "")
	made := func(body string, kind storage.Kind, of digest.Digest) digest.Digest {
		d := digest.FromString(body)
		r.must(r.Put(t.Context(), storage.BlobRow{Digest: d, Kind: kind, Of: of}, []byte(body), func(tx storage.Tx) error {
			if kind != storage.KindIndex {
				return nil
			}
			return tx.PutManifest(storage.ManifestRow{Digest: d, Size: int64(len(body)), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest}})
		}))
		return d
	}
	zTOC := string(stockLayer(t).ZTOC)
	x.zTOC = made(zTOC, storage.KindZTOC, x.layer)
	x.soci, x.converted = made("SOCI index", storage.KindIndex, x.image), made("converted", storage.KindIndex, x.image)
	x.list = made("list", storage.KindIndex, x.image)
	r.must(r.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutConversion(storage.ConversionRow{
			Repo: gcApp, Source: v1.Descriptor{Digest: x.image}, Index: v1.Descriptor{Digest: x.list},
			Made: []storage.MadeBlob{{Digest: x.soci, Of: x.image}, {Digest: x.converted, Of: x.image}, {Digest: x.list, Of: x.image}},
		})
	}))
	push := func(name, tag string, layers, manifests []digest.Digest) {
		_, err := r.pushManifest(to, name, tag, "", layers, manifests)
		r.must(err)
	}
	r.blob(to, "layer of image")
	r.blob(to, zTOC)
	push("converted", "", []digest.Digest{x.layer}, nil)
	push("SOCI index", "", []digest.Digest{x.zTOC}, nil)
	push("list", "copy", nil, []digest.Digest{x.converted, x.soci})
	return x
}

func (x *copied) all() []digest.Digest {
	return []digest.Digest{x.layer, x.zTOC, x.soci, x.converted, x.list}
}

// TestPurgeCopied: a converted image that was copied outlives the purge of the image
// that it was made of, and goes when it is deleted itself.
func TestPurgeCopied(t *testing.T) {
	for name, to := range map[string]oci.Repo{"elsewhere": gcOther, "beside it": gcApp} {
		t.Run(name, func(t *testing.T) {
			x := newCopied(t, to)
			x.purge(storage.PurgeOptions{Repo: gcApp, Root: x.image})
			x.check(gcApp, false, x.image)
			x.check(to, true, x.all()...)
			if to != gcApp {
				x.check(gcApp, false, x.all()...)
			}
			for _, d := range []digest.Digest{x.soci, x.converted, x.list} {
				x.must(x.View(t.Context(), func(tx storage.Tx) error {
					_, err := tx.Manifest(d)
					return err
				}))
			}
			if report, err := x.Check(t.Context(), storage.CheckOptions{}); err != nil || report.Problems != 0 {
				t.Errorf("check: %+v, %v", report, err)
			}
			x.pass(100 * time.Hour)
			x.collect(x.collector())
			x.check(to, true, x.all()...)
			x.remove(to, x.list)
			x.must(x.Update(t.Context(), func(tx storage.Tx) error { return storage.Release(tx, to, x.list, x.clock()) }))
			x.pass(100 * time.Hour)
			x.collect(x.collector())
			x.check(to, false, x.all()...)
			for _, d := range x.all() {
				if _, err := x.Stat(t.Context(), d); err == nil {
					t.Errorf("%s is left", d)
				}
			}
		})
	}
}

// TestPurgeLayerOfCopied: a zTOC that was copied outlives the layer that it was made of.
func TestPurgeLayerOfCopied(t *testing.T) {
	x := newCopied(t, gcOther)
	x.must(x.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutLayer(storage.LayerRow{Digest: x.layer, SpanSize: 1, State: storage.LayerIndexed, ZTOC: x.zTOC})
	}))
	if _, err := x.PurgeBlob(t.Context(), x.layer, true); err != nil {
		t.Fatal(err)
	}
	x.check(gcOther, false, x.layer)
	x.check(gcOther, true, x.zTOC, x.soci)
}

// TestReferrerOfCopied: an index that was pushed elsewhere stays a referrer there when
// the image that it was made of is purged.
func TestReferrerOfCopied(t *testing.T) {
	x := newCopied(t, gcOther)
	row := storage.ReferrerRow{Subject: x.image, Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: x.soci, Size: 10}}
	x.must(x.Update(t.Context(), func(tx storage.Tx) error {
		there := row
		there.Repo = gcOther
		return errors.Join(tx.PutReferrer(row), tx.PutReferrer(there))
	}))
	x.purge(storage.PurgeOptions{Repo: gcApp, Root: x.image})
	err := x.View(t.Context(), func(tx storage.Tx) error {
		if _, err := tx.Referrer(oci.Repo{}, x.image, x.soci); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("what was made here: %v", err)
		}
		_, err := tx.Referrer(gcOther, x.image, x.soci)
		return err
	})
	if err != nil {
		t.Errorf("the copy is no referrer any more: %v", err)
	}
}
