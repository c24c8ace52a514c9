package storage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPurgeConverted purges two images, one after the other, that were converted
// and whose SOCI v2 index is the same, since their layers are.
func TestPurgeConverted(t *testing.T) {
	w := newWorld(t, storagetest.NewLayer(t, "layer", 300_000, spanSize))
	made := func(of digest.Digest, name string, manifests ...digest.Digest) storage.MadeBlob {
		body := []byte(name)
		m := storage.MadeBlob{Digest: digest.FromBytes(body), Of: of}
		row := storage.ManifestRow{Digest: m.Digest, Manifest: oci.Manifest{MediaType: v1.MediaTypeImageIndex}}
		for _, d := range manifests {
			row.Manifest.Manifests = append(row.Manifest.Manifests, v1.Descriptor{Digest: d})
		}
		err := w.Put(t.Context(), storage.BlobRow{Digest: m.Digest, Kind: storage.KindIndex, Of: of}, body, func(tx storage.Tx) error {
			return tx.PutManifest(row)
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	same := made(w.one, "SOCI index of both")
	ofOne, ofOther := made(w.one, "converted one", same.Digest, w.one), made(w.other, "converted other", same.Digest, w.other)
	again := storage.MadeBlob{Digest: same.Digest, Of: w.other}
	err := w.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(
			tx.PutConversion(storage.ConversionRow{
				Repo: repoA, Source: v1.Descriptor{Digest: w.one}, Index: v1.Descriptor{Digest: ofOne.Digest}, Made: []storage.MadeBlob{same, ofOne},
			}),
			tx.PutConversion(storage.ConversionRow{
				Repo: repoB, Source: v1.Descriptor{Digest: w.other}, Index: v1.Descriptor{Digest: ofOther.Digest}, Made: []storage.MadeBlob{again, ofOther},
			}),
			tx.PutConvertedTag(storage.ConvertedTagRow{Repo: repoB, Tag: "1", Source: w.other, Index: ofOther.Digest}),
			tx.PutRight(repoB, same.Digest),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]digest.Digest{"same": same.Digest, "converted one": ofOne.Digest, "converted other": ofOther.Digest} {
		w.all[name] = d
	}
	if _, err := w.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: w.index}); err != nil {
		t.Fatal(err)
	}
	stays := []string{"other", "base", "shared", "same", "converted other"}
	w.wantWhich(w.all, stays...)
	if found, _ := w.check(false); len(found) > 0 {
		t.Errorf("rows contradict each other: %v", found)
	}
	err = w.View(t.Context(), func(tx storage.Tx) error {
		_, err := tx.Manifest(same.Digest)
		_, cerr := tx.Conversion(w.other, repoB)
		has, herr := tx.HasRight(repoB, same.Digest)
		if !has {
			t.Error("the other's repository has no right to the index any more")
		}
		retired := tx.Retired(func(r storage.RetiredRow) error {
			if r.Digest == same.Digest {
				t.Error("the other's index is retired")
			}
			return nil
		})
		return errors.Join(err, cerr, herr, retired)
	})
	if err != nil {
		t.Errorf("of the other image: %v", err)
	}
	// Nor does the collector take it, though the image is gone that it says it was made of.
	c := storage.NewCollector(storage.CollectOptions{Store: w.Store, Hosted: []string{"local"}, Grace: time.Nanosecond})
	if _, err := c.Collect(t.Context(), false, func(storage.Collected) {}); err != nil {
		t.Fatal(err)
	}
	w.wantWhich(w.all, stays...)
	if _, err := w.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoB, Root: w.other}); err != nil {
		t.Fatal(err)
	}
	w.wantWhich(w.all)
	w.wantNoGarbage()
}
