package storage_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// spoil is the next process's store, after rows of one table were damaged.
func (r *rig) spoil(table string) *rig {
	r.t.Helper()
	if err := r.meta.Close(); err != nil {
		r.t.Fatal(err)
	}
	n := 0
	storagetest.SpoilRows(r.t, filepath.Join(r.dir, "meta.db"), func(of string, _ []byte) bool {
		if of == table {
			n++
		}
		return of == table
	})
	if n == 0 {
		r.t.Fatalf("there are no %s to damage", table)
	}
	return newRig(r.t, r.dir, nil, storage.Options{})
}

// TestCheckMendsUnreadable damages all rows of each table in turn: the store can be
// used, a check names them, and a repair leaves a store of which there is nothing
// to say.
func TestCheckMendsUnreadable(t *testing.T) {
	layer := stockLayer(t)
	for _, table := range []string{
		storage.TableBlobs, storage.TablePartials, storage.TableManifests, storage.TableReferrers, storage.TableLayers, "images",
	} {
		t.Run(table, func(t *testing.T) {
			s := newStock(t, layer)
			r := s.spoil(table)
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			if d := r.mustPut(kb("new", 3), storage.KindBlob, storage.Durable); table != storage.TableBlobs {
				r.wantServed("what is put now", d)
				r.wantServed("what was here", s.blob)
			}
			found, _ := r.check(false)
			if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "row ") }) {
				t.Errorf("found %q, want rows that can't be read", found)
			}
			r.check(true)
			if found, _ := r.check(true); len(found) > 0 {
				t.Errorf("after the repair there is still %q", found)
			}
			for _, d := range []digest.Digest{s.blob, s.span, s.index, s.image, layer.Row.ZTOC} {
				r.wantServed("what was here", d)
			}
			r.wantUsage()
		})
	}
}

// hosted is an image that was pushed, with a signature.
type hosted struct {
	*rig
	layer, image, signature digest.Digest
}

func newHosted(t *testing.T) *hosted {
	return newRig(t, t.TempDir(), nil, storage.Options{}).pushSigned("a layer", "v1")
}

// pushSigned pushes an image of one blob, and a signature.
func (r *rig) pushSigned(layer, tag string) *hosted {
	r.t.Helper()
	const media = "application/vnd.oci.image.manifest.v1+json"
	h := &hosted{rig: r, layer: r.push(gcApp, layer, nil)}
	config := &v1.Descriptor{MediaType: "c", Digest: h.layer, Size: int64(len(layer))}
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"c","digest":%q,"size":%d},"layers":[]}`, media, h.layer, len(layer))
	h.image = r.push(gcApp, body, &oci.Manifest{MediaType: media, Config: config})
	subject := &v1.Descriptor{MediaType: media, Digest: h.image, Size: int64(len(body))}
	h.signature = r.push(gcApp, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"s","digest":%q,"size":%d},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		media, h.layer, len(layer), media, h.image, len(body)), &oci.Manifest{MediaType: media, Config: config, Subject: subject})
	err := r.Update(r.t.Context(), func(tx storage.Tx) error {
		return tx.PutTag(storage.TagRow{Repo: gcApp, Tag: tag, Digest: h.image, Checked: noon})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func collect(t *testing.T, r *rig) (storage.CollectReport, error) {
	c := storage.NewCollector(storage.CollectOptions{
		Store: r.Store, Hosted: []string{"local"}, Rules: []storage.Retention{{Repositories: []string{"**"}, KeepLast: 1, Untagged: time.Second}},
	})
	return c.Collect(t.Context(), false, nil)
}

// TestUnreadableHosted damages rows of what was pushed. Nothing is collected while
// they can't be read, since they may need it; a repair gives all of them again.
func TestUnreadableHosted(t *testing.T) {
	for _, table := range []string{
		storage.TableBlobs, storage.TableManifests, storage.TableContent, "content-bytes", storage.TableTags, storage.TableReferrers,
	} {
		t.Run(table, func(t *testing.T) {
			h := newHosted(t)
			r := h.spoil(table)
			report, err := collect(t, r)
			if n := report.Blobs + report.Manifests + report.Tags; n > 0 || err != nil && !errors.Is(err, storage.ErrUnsure) {
				t.Errorf("%d things were collected, %v", n, err)
			}
			if found, _ := r.check(true); len(found) == 0 {
				t.Error("found nothing")
			}
			if found, _ := r.check(true); len(found) > 0 {
				t.Errorf("after the repair there is still %q", found)
			}
			if _, err := collect(t, r); err != nil {
				t.Errorf("Collect after the repair: %v", err)
			}
			for _, d := range []digest.Digest{h.layer, h.image, h.signature} {
				r.wantServed("what was pushed", d)
			}
			err = r.View(t.Context(), func(tx storage.Tx) error {
				tag, err := tx.Tag(gcApp, "v1")
				if tag.Digest != h.image {
					t.Errorf("the tag means %q, want %s", tag.Digest, h.image)
				}
				ref, rerr := tx.Referrer(gcApp, h.image, h.signature)
				if ref.Descriptor.Digest != h.signature {
					t.Errorf("listed is %+v, want %s", ref.Descriptor, h.signature)
				}
				for d, manifest := range map[digest.Digest]bool{h.layer: false, h.image: true, h.signature: true} {
					row, cerr := tx.Content(gcApp, d)
					if row.Manifest != manifest || !row.Counts() {
						t.Errorf("content %+v, want one that counts, manifest %t", row, manifest)
					}
					err = errors.Join(err, cerr)
				}
				return errors.Join(err, rerr)
			})
			if err != nil {
				t.Error(err)
			}
			r.wantUsage()
		})
	}
}

// TestUnreadableAndLost damages rows of what was pushed of which the bytes are gone,
// too: each check names that until it is pushed again.
func TestUnreadableAndLost(t *testing.T) {
	h := newHosted(t)
	for _, d := range []digest.Digest{h.layer, h.signature} {
		if err := os.Remove(h.file(d)); err != nil {
			t.Fatal(err)
		}
	}
	r := h.spoil(storage.TableContent)
	r.Check(t.Context(), storage.CheckOptions{Repair: true}) // the next one tells
	again := map[string]bool{}
	_, err := r.Check(t.Context(), storage.CheckOptions{Repair: true, Found: func(p storage.Problem) {
		again[fmt.Sprintf("%s %s %t", p.Kind, p.Digest, p.Repaired)] = true
	}})
	if want := fmt.Sprintf("lost %s false", h.layer); err != nil || !again[want] {
		t.Errorf("found %q, %v, want %s", slices.Sorted(maps.Keys(again)), err, want)
	}
	r.push(gcApp, "a layer", nil)
	r.wantServed("what was pushed again", h.layer)
}

// TestUnreadableStays: a pin keeps and a block blocks, whether or not it can be read.
func TestUnreadableStays(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	d, bad := r.mustPut(kb("pinned", 3), storage.KindBlob, storage.Durable), digest.FromString("bad")
	pin := storage.PinRow{Reference: "docker.io/library/redis:7", Root: d, Holds: []digest.Digest{d}}
	put := func(tx storage.Tx) error {
		return errors.Join(tx.PutPin(pin), tx.PutBlock(storage.BlockRow{Digest: bad, Created: noon}))
	}
	if err := r.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	r = r.spoil(storage.TablePins).spoil(storage.TableBlocks)
	for range 2 {
		if _, err := r.Check(t.Context(), storage.CheckOptions{Repair: true}); err != nil {
			t.Fatal(err)
		}
		err := r.View(t.Context(), func(tx storage.Tx) error {
			pinned, err := tx.Pinned(d)
			blocked, berr := tx.Blocked(bad)
			if !pinned || !blocked {
				t.Errorf("pinned %t, blocked %t", pinned, blocked)
			}
			return errors.Join(err, berr)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if report, err := r.Check(t.Context(), storage.CheckOptions{Repair: true}); err != nil || report.Problems != 1 {
		t.Errorf("%+v, %v, want one problem: the pin", report, err)
	}
	if err := r.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	if found, _ := r.check(true); len(found) > 0 {
		t.Errorf("found %q after it was pinned again", found)
	}
}

// TestSweepLeavesUnreadable has a server run on a store with rows that can't be
// read: the files are there for the repair, and take the room that they take.
func TestSweepLeavesUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		d := r.mustPut(kb("cached", 5), storage.KindBlob, storage.Durable)
		r = r.spoil(storage.TableBlobs)
		stop := r.running()
		pass(storage.SweepGrace + time.Second)
		stop()
		if n := r.Usage().Total(); n != 5000 {
			t.Errorf("%d bytes are counted, want 5000", n)
		}
		r.check(true)
		r.wantServed("what was here", d)
		r.wantUsage()
	})
}

// TestPutOverUnreadable brings a blob of which the row can't be read: it is here.
func TestPutOverUnreadable(t *testing.T) {
	for _, dur := range []storage.Durability{storage.Cached, storage.Durable} {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		d := r.mustPut(kb("cached", 5), storage.KindBlob, storage.Durable)
		pushed := r.push(gcApp, "a layer", nil)
		r = r.spoil(storage.TableBlobs)
		r.wantAbsent("what can't be read", d)
		r.mustPut(kb("cached", 5), storage.KindBlob, dur)
		r.push(gcApp, "a layer", nil)
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found, _ := r.check(true); len(found) > 0 {
			t.Errorf("found %q", found)
		}
		r.wantServed("what came again", d)
		r.wantServed("what was pushed again", pushed)
		r.wantUsage()
	}
}
