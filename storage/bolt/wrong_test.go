package bolt_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
)

// putOfEach puts a row in every table.
func putOfEach(tx storage.Tx, i int) error {
	name := fmt.Sprint(i)
	repo, at := oci.Repo{Upstream: "docker.io", Name: "library/" + name}, time.Unix(int64(1000+i), 0).UTC()
	d, l, r := digest.FromString(name), digest.FromString("layer "+name), digest.FromString("referrer "+name)
	desc := v1.Descriptor{Digest: d}
	return errors.Join(
		tx.PutBlob(storage.BlobRow{Digest: d, Size: int64(i), Kind: storage.KindBlob, Created: at, Accessed: at}),
		tx.PutPartial(storage.PartialRow{Digest: d}),
		tx.PutManifest(storage.ManifestRow{Digest: d, Manifest: oci.Manifest{Layers: []v1.Descriptor{{Digest: l}}}}),
		tx.PutContent(storage.ContentRow{Repo: repo, Digest: d, Size: 5, Pushed: at}),
		tx.PutContent(storage.ContentRow{Repo: oci.Repo{Upstream: "local", Name: name}, Digest: l, Size: 9, Released: at}),
		tx.PutTag(storage.TagRow{Repo: repo, Tag: "1", Digest: d}),
		tx.PutReferrer(storage.ReferrerRow{Repo: repo, Subject: d, Descriptor: v1.Descriptor{Digest: r}}),
		tx.PutReferrer(storage.ReferrerRow{Subject: d, Descriptor: v1.Descriptor{Digest: r}}),
		tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: repo, Subject: d}),
		tx.PutImage(storage.ImageRow{Manifest: desc, Layers: []storage.ImageLayer{{Descriptor: v1.Descriptor{Digest: l}, SpanSize: 4}}}),
		tx.PutLayer(storage.LayerRow{Digest: l, SpanSize: 4}), tx.PutSpans(l, 4, []byte(name)),
		tx.PutHeat(storage.HeatRow{Digest: l, SpanSize: 4, Spans: make([]storage.SpanHeat, i)}),
		tx.PutPulls(storage.PullRow{Manifest: d, Pulls: int64(i), Last: at}),
		tx.PutLearn(storage.LearnRow{Manifest: d}), tx.PutTaken(storage.TakenRow{Manifest: d}),
		tx.PutJob(storage.JobRow{Layer: oci.Layer{Repo: repo, Descriptor: v1.Descriptor{Digest: l}}, SpanSize: 4, Created: at}),
		tx.PutTask(storage.TaskRow{Kind: storage.TaskImage, Repo: repo, Reference: "1", Created: at}),
		tx.PutConversion(storage.ConversionRow{Repo: repo, Source: desc}), tx.PutConvertedTag(storage.ConvertedTagRow{Repo: repo, Tag: "1"}),
		tx.PutRetired(storage.RetiredRow{Digest: d}), tx.PutPublished(storage.PublishedRow{Repo: repo, Subject: d, Index: r}),
		tx.PutPin(storage.PinRow{Reference: name, Root: d, Holds: []digest.Digest{d}}), tx.PutBlock(storage.BlockRow{Digest: d}),
		tx.PutMissing(storage.MissingRow{Repo: repo, Reference: "1"}), tx.PutImported(storage.ImportedRow{Layer: l}),
		tx.PutUpload(storage.UploadRow{ID: name}), tx.PutRight(repo, d), tx.AddEvent("hook", []byte(name)),
	)
}

// readEach goes through all rows, and counts what it finds.
func readEach(tx storage.Tx) (found map[string]int, err error) {
	found = map[string]int{}
	repos := func(what string) func(oci.Repo) error { return func(oci.Repo) error { found[what]++; return nil } }
	digests := func(what string) func(digest.Digest) error {
		return func(digest.Digest) error { found[what]++; return nil }
	}
	err = errors.Join(
		tx.Blobs(count[storage.BlobRow](found)), tx.Partials(count[storage.PartialRow](found)), tx.Manifests(count[storage.ManifestRow](found)),
		tx.AllContents(count[storage.ContentRow](found)), tx.ContentRepos("docker.io", "", repos("repositories of content")),
		tx.TagRepos(func(repo oci.Repo) error { found["tagged"]++; return tx.Tags(repo, "", count[storage.TagRow](found)) }),
		tx.AllReferrers(count[storage.ReferrerRow](found)), tx.AllUpstreamReferrers(count[storage.UpstreamReferrersRow](found)),
		tx.Images(count[storage.ImageRow](found)), tx.ImageDigests(digests("images")), tx.AllLayers(count[storage.LayerRow](found)),
		tx.AllPulls(count[storage.PullRow](found)), tx.AllLearn(count[storage.LearnRow](found)),
		tx.Jobs(count[storage.JobRow](found)), tx.Tasks(count[storage.TaskRow](found)),
		tx.AllConversions(count[storage.ConversionRow](found)), tx.ConvertedTags(count[storage.ConvertedTagRow](found)),
		tx.Retired(count[storage.RetiredRow](found)), tx.AllPublished(count[storage.PublishedRow](found)),
		tx.Pins(count[storage.PinRow](found)), tx.AllPinned(digests("pinned")), tx.Blocks(count[storage.BlockRow](found)),
		tx.AllMissing(count[storage.MissingRow](found)), tx.AllImported(count[storage.ImportedRow](found)), tx.Uploads(count[storage.UploadRow](found)),
		tx.EventEndpoints(func(name string) error {
			found["endpoints"]++
			return tx.Events(name, 0, count[storage.EventRow](found))
		}),
	)
	for i := range rowsOfEach {
		d, l := digest.FromString(fmt.Sprint(i)), digest.FromString(fmt.Sprint("layer ", i))
		err = errors.Join(err,
			tx.RightRepos(d, repos("rights")), tx.ContentOf(d, repos("content of")), tx.NamedBy(l, digests("named by")),
			tx.TagsOf(d, func(oci.Repo, string) error { found["tags of"]++; return nil }),
			tx.PinsOf(d, func(storage.PinRow) error { found["pins of"]++; return nil }),
			tx.ImagesOf(l, func(storage.ImageRow) error { found["images of"]++; return nil }),
		)
	}
	return found, err
}

func count[R any](found map[string]int) func(R) error {
	return func(R) error { found[fmt.Sprintf("%T", *new(R))]++; return nil }
}

const rowsOfEach = 3

// wrongDB is a file with rows in all tables, which nobody has open.
func wrongDB(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "meta.db")
	db := open(t, path, bolt.Options{NoSync: true})
	err := db.Update(t.Context(), func(tx storage.Tx) (err error) {
		for i := range rowsOfEach {
			err = errors.Join(err, putOfEach(tx, i))
		}
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// eachTable calls fn for every table but those of what is no row.
// eachTable calls fn for all tables but those of but.
func eachTable(t *testing.T, but []string, fn func(t *testing.T, table string)) {
	db, err := bbolt.Open(wrongDB(t), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if n := string(name); n != "schema" && n != "samples" && !slices.Contains(but, n) {
				names = append(names, n)
			}
			return nil
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { fn(t, name) })
	}
}

// tablesUnread are the tables of which rows can't be read.
func tablesUnread(t *testing.T, db *bolt.DB) (names []string) {
	t.Helper()
	err := db.View(t.Context(), func(tx storage.Tx) error {
		return tx.Unreadable(func(row storage.UnreadableRow) error { names = append(names, row.Table); return nil })
	})
	if err != nil {
		t.Errorf("Unreadable: %v", err)
	}
	return names
}

// dropUnread drops all rows that can't be read, and checks that none is left.
func dropUnread(t *testing.T, db *bolt.DB) {
	t.Helper()
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		var rows []storage.UnreadableRow
		err := tx.Unreadable(func(row storage.UnreadableRow) error { rows = append(rows, row); return nil })
		for _, row := range rows {
			err = errors.Join(err, tx.DropUnreadable(row))
		}
		return err
	})
	if err != nil {
		t.Errorf("drop: %v", err)
	}
	if left := tablesUnread(t, db); len(left) > 0 {
		t.Errorf("there are still rows of %q that can't be read", left)
	}
}

func mustReadEach(t *testing.T, db *bolt.DB) (found map[string]int) {
	t.Helper()
	err := db.View(t.Context(), func(tx storage.Tx) (err error) { found, err = readEach(tx); return err })
	if err != nil {
		t.Errorf("read: %v", err)
	}
	return found
}

// TestBadKeys puts keys that are none beside the rows of each table: all others are
// found as before, and they are told, and can be dropped.
func TestBadKeys(t *testing.T) {
	want := mustReadEach(t, open(t, wrongDB(t), bolt.Options{NoSync: true}))
	eachTable(t, nil, func(t *testing.T, table string) {
		for _, key := range storagetest.BadKeys() {
			path := wrongDB(t)
			storagetest.AddBadKey(t, path, table, key, false)
			db := open(t, path, bolt.Options{NoSync: true})
			if unread := tablesUnread(t, db); !slices.Equal(unread, []string{table}) {
				t.Errorf("%x: rows of %q can't be read", key, unread)
			}
			found := mustReadEach(t, db)
			for what, n := range want {
				if found[what] != n && (table != "pins-by-digest" || what != "pinned") { // what may be pinned stays
					t.Errorf("%x: found %d %s, want %d", key, found[what], what, n)
				}
			}
			err := db.Update(t.Context(), func(tx storage.Tx) error {
				return errors.Join(putOfEach(tx, 1), putOfEach(tx, rowsOfEach), tx.ForgetRights("docker.io"))
			})
			if err != nil {
				t.Errorf("%x: write: %v", key, err)
			}
			dropUnread(t, db)
		}
	})
}

// TestNoRow has values that are no rows of their tables under keys that are none: they
// go, and nothing comes in their place.
func TestNoRow(t *testing.T) {
	want := mustReadEach(t, open(t, wrongDB(t), bolt.Options{NoSync: true}))
	eachTable(t, nil, func(t *testing.T, table string) {
		for _, v := range []string{"", "{}", `{"subject":"x","holds":["x"],"reference":"r","size":-1}`} {
			path := wrongDB(t)
			storagetest.PutRow(t, path, table, []byte("garbage"), []byte(v))
			db := open(t, path, bolt.Options{NoSync: true})
			dropUnread(t, db)
			if found := mustReadEach(t, db); !maps.Equal(found, want) {
				t.Errorf("%q: found %v, want %v", v, found, want)
			}
		}
	})
}

// TestLostKeys has the first row of each table lose its key: what only a person could
// say again is put where it says, and the rest is absent.
func TestLostKeys(t *testing.T) {
	want := mustReadEach(t, open(t, wrongDB(t), bolt.Options{NoSync: true}))
	back := []string{storage.TableTags, storage.TableContent, storage.TableReferrers, storage.TablePins, storage.TableBlocks}
	eachTable(t, nil, func(t *testing.T, table string) {
		for _, key := range storagetest.BadKeys() {
			path := wrongDB(t)
			storagetest.AddBadKey(t, path, table, key, true)
			db := open(t, path, bolt.Options{NoSync: true})
			mustReadEach(t, db)
			if unread := tablesUnread(t, db); !slices.Contains(unread, table) {
				t.Errorf("%x: rows of %q can't be read, want %s", key, unread, table)
			}
			dropUnread(t, db)
			found := mustReadEach(t, db)
			for what, n := range want {
				if slices.Contains(back, table) && found[what] != n {
					t.Errorf("%x: found %d %s, want %d", key, found[what], what, n)
				}
			}
			if err := db.Update(t.Context(), func(tx storage.Tx) error { return putOfEach(tx, 0) }); err != nil {
				t.Errorf("%x: write: %v", key, err)
			}
		}
	})
}

// TestSwappedRows gives two rows of each table each other's values. What does not tell
// its key, and no other row tells, is compared with the bytes: see the tests of Check.
func TestSwappedRows(t *testing.T) {
	blind := []string{"blobs", "spans", "heat", "pulls", "events"}
	one := []string{"rights", "content-bytes"} // whose keys say all, or that has one row
	eachTable(t, slices.Concat(one, onlyKeys), func(t *testing.T, table string) {
		path := wrongDB(t)
		storagetest.SwapRows(t, path, table)
		db := open(t, path, bolt.Options{NoSync: true})
		mustReadEach(t, db)
		if unread := tablesUnread(t, db); len(unread) != 2 != slices.Contains(blind, table) {
			t.Errorf("rows of %q can't be read, want two of %s", unread, table)
		}
		dropUnread(t, db)
		mustReadEach(t, db)
	})
}

var onlyKeys = []string{"tags-by-digest", "manifests-by-named", "images-by-layer", "pins-by-digest", "jobs-by-order", "tasks-by-order"}
