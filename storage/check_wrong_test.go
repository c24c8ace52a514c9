package storage_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// twice is a store that has two things of each sort.
type twice struct {
	*stock
	pushed []*hosted
	all    []digest.Digest // blobs
}

func newTwice(t *testing.T, layer, other *storagetest.Layer) *twice {
	r := &twice{stock: newStock(t, layer)}
	other.Store(t, r.Store)
	image := r.putManifest("other image", []digest.Digest{other.Digest()}, nil)
	body := []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.amazon.soci.index.v1+json","digest":"` + other.Row.ZTOC.String() + `","size":2},"layers":[]}`)
	index := digest.FromBytes(body)
	err := r.Put(t.Context(), storage.BlobRow{Digest: index, Kind: storage.KindIndex, Of: image}, body, func(tx storage.Tx) error {
		return tx.PutManifest(storage.ManifestRow{Digest: index, Size: int64(len(body))})
	})
	if err != nil {
		t.Fatal(err)
	}
	part := digest.FromString("other part")
	p := r.openPartial(part)
	writeAt(t, p, kb("other part", 30), ranges(0, 30_000)...)
	if err := p.Checkpoint(t.Context(), -1, ranges(0, 30_000)); err != nil {
		t.Fatal(err)
	}
	closeIt(t, p)
	r.pushed = []*hosted{r.pushSigned("a layer", "v1"), r.pushSigned("another layer", "v2")}
	gone := digest.FromString("released")
	r.update(func(tx storage.Tx) (err error) {
		for i, d := range []digest.Digest{image, r.blob} {
			err = errors.Join(err,
				tx.PutTag(storage.TagRow{Repo: gcOther, Tag: fmt.Sprint(i), Digest: d, Checked: noon}), tx.PutRight(gcOther, d),
				tx.PutBlock(storage.BlockRow{Digest: digest.FromString(fmt.Sprint("bad", i)), Created: noon}),
				tx.PutPulls(storage.PullRow{Manifest: d, Pulls: int64(i), Last: noon}),
				tx.PutPin(storage.PinRow{Reference: fmt.Sprint("docker.io/library/redis:", i), Root: d, Holds: []digest.Digest{d}, Created: noon}),
			)
		}
		return errors.Join(err,
			tx.PutReferrer(storage.ReferrerRow{Subject: image, Descriptor: v1.Descriptor{Digest: index}}),
			tx.PutImage(storage.ImageRow{
				Manifest: v1.Descriptor{Digest: image}, Index: index, IndexSize: 5, Published: noon,
				Layers: []storage.ImageLayer{{Descriptor: v1.Descriptor{Digest: other.Digest()}, SpanSize: spanSize}},
			}),
			tx.PutContent(storage.ContentRow{Repo: gcOther, Digest: gone, Size: 3, Pushed: noon, Released: noon}),
			tx.DeleteRight(gcOther, gone),
		)
	})
	r.all = []digest.Digest{layer.Digest(), layer.Row.ZTOC, other.Digest(), other.Row.ZTOC, r.image, r.index, r.blob, r.span, r.old, image, index}
	for _, h := range r.pushed {
		r.all = append(r.all, h.layer, h.image, h.signature)
	}
	if found, _ := r.check(false); len(found) > 0 {
		t.Fatalf("to begin with: %q", found)
	}
	return r
}

// wantNoOther reads all blobs: those that are here hold what their names say.
func (r *twice) wantNoOther() {
	r.t.Helper()
	for _, d := range r.all {
		if body, err := r.read(d); err == nil && digest.FromBytes(body) != d || err != nil && !errors.Is(err, storage.ErrNotFound) {
			r.t.Errorf("read %s: %d bytes, %v", d, len(body), err)
		}
	}
}

// TestCheckMendsWrongRows has rows of each table that can be read and are of others,
// or are under a key that is none: the store can be used, a check names them, and a
// repair leaves a store of which there is nothing to say, and in which all is that was
// pushed.
func TestCheckMendsWrongRows(t *testing.T) {
	layer, other := stockLayer(t), storagetest.NewLayer(t, "other", 300_000, spanSize)
	key := func(i int) []byte { return storagetest.BadKeys()[i] }
	damages := map[string]func(t *testing.T, path, table string){
		"swapped":   func(t *testing.T, path, table string) { storagetest.SwapRows(t, path, table) },
		"bad key":   func(t *testing.T, path, table string) { storagetest.AddBadKey(t, path, table, key(2), false) },
		"long key":  func(t *testing.T, path, table string) { storagetest.AddBadKey(t, path, table, key(5), false) },
		"lost key":  func(t *testing.T, path, table string) { storagetest.AddBadKey(t, path, table, key(2), true) },
		"other key": func(t *testing.T, path, table string) { storagetest.AddBadKey(t, path, table, []byte("x"), true) },
	}
	for _, table := range []string{
		storage.TableBlobs, storage.TablePartials, storage.TableManifests, storage.TableTags, storage.TableContent, "content-by-digest",
		storage.TableReferrers, "images", storage.TableLayers, "spans", "pulls", storage.TablePins, storage.TableBlocks,
		"content-bytes", "rights", "tags-by-digest", "manifests-by-named", "images-by-layer", "pins-by-digest",
	} {
		for damage, do := range damages {
			if damage == "swapped" && (strings.Contains(table, "-by") && table != "content-by-digest" || table == "rights") {
				continue // keys say all, or there is one
			}
			t.Run(table+" "+damage, func(t *testing.T) {
				r := newTwice(t, layer, other)
				if err := r.meta.Close(); err != nil {
					t.Fatal(err)
				}
				do(t, filepath.Join(r.dir, "meta.db"), table)
				r.rig = newRig(t, r.dir, nil, storage.Options{})
				found, _ := r.Check(t.Context(), storage.CheckOptions{})
				if found.Problems == 0 && (damage != "swapped" || table != "pulls") {
					t.Error("found nothing")
				}
				r.wantNoOther()
				if err := r.Flush(t.Context()); err != nil {
					t.Errorf("Flush: %v", err)
				}
				if _, err := r.Check(t.Context(), storage.CheckOptions{Repair: true}); err != nil {
					t.Errorf("Check: %v", err)
				}
				if table == storage.TablePins && damage == "swapped" { // only a person can say what was pinned
					return
				}
				if found, _ := r.check(true); len(found) > 0 {
					t.Errorf("after the repair there is still %q", found)
				}
				r.wantNoOther()
				r.wantPushed()
				r.wantUsage()
			})
		}
	}
}

// wantPushed checks that all is there that was pushed.
func (r *twice) wantPushed() {
	r.t.Helper()
	err := r.View(r.t.Context(), func(tx storage.Tx) (err error) {
		for i, h := range r.pushed {
			tag, terr := tx.Tag(gcApp, []string{"v1", "v2"}[i])
			if tag.Digest != h.image {
				r.t.Errorf("the tag means %q, want %s", tag.Digest, h.image)
			}
			_, rerr := tx.Referrer(gcApp, h.image, h.signature)
			err = errors.Join(err, terr, rerr)
			for _, d := range []digest.Digest{h.layer, h.image, h.signature} {
				row, cerr := tx.Content(gcApp, d)
				if row.Manifest != (d != h.layer) || !row.Counts() {
					r.t.Errorf("content %+v, want one that counts", row)
				}
				blob, berr := tx.Blob(d)
				if !slices.Contains([]storage.Kind{storage.KindHosted, storage.KindManifest}, blob.Kind) {
					r.t.Errorf("%s is a %s", d, blob.Kind)
				}
				err = errors.Join(err, cerr, berr)
			}
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
	for _, h := range r.pushed {
		for _, d := range []digest.Digest{h.layer, h.image, h.signature} {
			r.wantServed("what was pushed", d)
		}
	}
}
