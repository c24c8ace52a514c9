package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// SpoilRows makes rows unreadable in the file path of a bolt.DB that is closed:
// those of which says so, or all where that is nil.
func SpoilRows(t testing.TB, path string, which func(table string, key []byte) bool) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatalf("open rows to spoil them: %v", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			bad := map[string][]byte{} // a bucket does not change under its cursor
			err := b.ForEach(func(k, v []byte) error {
				if string(name) == "schema" || len(v) < 2 || which != nil && !which(string(name), k) {
					return nil
				}
				bad[string(k)] = append([]byte{v[0] ^ 0x80}, v[1:len(v)/2]...)
				return nil
			})
			for k, v := range bad {
				err = errors.Join(err, b.Put([]byte(k), v))
			}
			return err
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("spoil rows: %v", err)
	}
}

// spoiled is a row of one table: how it is put, read and deleted, and what finds it.
type spoiled struct {
	table          string
	put, get, gone func(tx storage.Tx) error
	finds          []func(tx storage.Tx, met func()) error
}

func spoiledRows() []spoiled { return append(spoiledContent(), spoiledWork()...) }

// spoiledContent is about what is stored.
func spoiledContent() []spoiled {
	d, l := dig("1"), dig("layer")
	image := storage.ImageRow{Manifest: v1.Descriptor{Digest: d}, Layers: []storage.ImageLayer{{Descriptor: v1.Descriptor{Digest: l}, SpanSize: 4}}}
	manifest := storage.ManifestRow{Digest: d, Manifest: oci.Manifest{Layers: []v1.Descriptor{{Digest: l}}}}
	return []spoiled{
		{
			"blobs",
			func(tx storage.Tx) error {
				return tx.PutBlob(storage.BlobRow{Digest: d, Kind: storage.KindBlob, Created: noon, Accessed: noon})
			},
			func(tx storage.Tx) error { _, err := tx.Blob(d); return err },
			func(tx storage.Tx) error {
				return first(tx.Touch(map[digest.Digest]time.Time{d: noon}), tx.DeleteBlob(d))
			},
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Blobs(func(storage.BlobRow) error { met(); return nil })
				},
			},
		}, {
			"partials",
			func(tx storage.Tx) error { return tx.PutPartial(storage.PartialRow{Digest: d}) },
			func(tx storage.Tx) error { _, err := tx.Partial(d); return err },
			func(tx storage.Tx) error { return tx.DeletePartial(d) },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Partials(func(storage.PartialRow) error { met(); return nil })
				},
			},
		}, {
			"manifests",
			func(tx storage.Tx) error { return tx.PutManifest(manifest) },
			func(tx storage.Tx) error { _, err := tx.Manifest(d); return err },
			func(tx storage.Tx) error { return tx.DeleteManifest(d) },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Manifests(func(storage.ManifestRow) error { met(); return nil })
				},
			},
		}, {
			"images",
			func(tx storage.Tx) error { return tx.PutImage(image) },
			func(tx storage.Tx) error { _, err := tx.Image(d); return err },
			func(tx storage.Tx) error { return tx.DeleteImage(d) },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Images(func(storage.ImageRow) error { met(); return nil })
				},
				func(tx storage.Tx, met func()) error {
					return tx.ImagesOf(l, func(storage.ImageRow) error { met(); return nil })
				},
			},
		}, {
			"layers",
			func(tx storage.Tx) error { return tx.PutLayer(storage.LayerRow{Digest: l, SpanSize: 4}) },
			func(tx storage.Tx) error { _, err := tx.Layer(l, 4); return err },
			func(tx storage.Tx) error { return tx.DeleteLayer(l, 4) },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.AllLayers(func(storage.LayerRow) error { met(); return nil })
				},
			},
		},
	}
}

// spoiledWork is about what is to be done, is under way, or was counted.
func spoiledWork() []spoiled {
	d, l := dig("1"), dig("layer")
	layer := oci.Layer{Repo: repoA, Descriptor: v1.Descriptor{Digest: l, Size: 7}}
	return []spoiled{
		{
			"jobs",
			func(tx storage.Tx) error { return tx.PutJob(storage.JobRow{Layer: layer, SpanSize: 4, Created: noon}) },
			func(tx storage.Tx) error { _, err := tx.Job(l, 4); return err },
			func(tx storage.Tx) error { return tx.DeleteJob(l, 4) },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Jobs(func(storage.JobRow) error { met(); return nil })
				},
			},
		}, {
			"tasks",
			func(tx storage.Tx) error {
				return tx.PutTask(storage.TaskRow{Kind: storage.TaskImage, Repo: repoA, Reference: "1", Created: noon})
			},
			func(tx storage.Tx) error { _, err := tx.Task(storage.TaskImage, repoA, "1"); return err },
			func(tx storage.Tx) error { return tx.DeleteTask(storage.TaskImage, repoA, "1") },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Tasks(func(storage.TaskRow) error { met(); return nil })
				},
			},
		}, {
			"pulls",
			func(tx storage.Tx) error { return tx.PutPulls(storage.PullRow{Manifest: d, Pulls: 1, Last: noon}) },
			func(tx storage.Tx) error { _, err := tx.Pulls(d); return err },
			func(tx storage.Tx) error { return tx.DeletePulls(d) },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.AllPulls(func(storage.PullRow) error { met(); return nil })
				},
			},
		}, {
			"heat",
			func(tx storage.Tx) error {
				return tx.PutHeat(storage.HeatRow{Digest: l, SpanSize: 4, Spans: []storage.SpanHeat{{Reads: 1, Last: noon}}})
			},
			func(tx storage.Tx) error { _, err := tx.Heat(l, 4); return err },
			func(tx storage.Tx) error { return tx.DeleteLayer(l, 4) },
			nil,
		}, {
			"uploads",
			func(tx storage.Tx) error { return tx.PutUpload(storage.UploadRow{ID: "x", Repo: repoA}) },
			func(tx storage.Tx) error { _, err := tx.Upload("x"); return err },
			func(tx storage.Tx) error { return tx.DeleteUpload("x") },
			[]func(storage.Tx, func()) error{
				func(tx storage.Tx, met func()) error {
					return tx.Uploads(func(storage.UploadRow) error { met(); return nil })
				},
			},
		},
	}
}

// UnreadableRows runs the contract of storage.UnreadableTx. spoil makes all rows of
// m unreadable and gives a Meta that has them.
func UnreadableRows(t *testing.T, newMeta func(t *testing.T) storage.Meta, spoil func(t *testing.T, m storage.Meta) storage.Meta) {
	for _, x := range spoiledRows() {
		spoiltRow := func(t *testing.T) storage.Meta {
			m := newMeta(t)
			update(t, m, x.put)
			return spoil(t, m)
		}
		t.Run(x.table+" read", func(t *testing.T) {
			m := spoiltRow(t)
			view(t, m, func(tx storage.Tx) error {
				x.absent(t, tx, true)
				if tx.Unread() == 0 {
					t.Error("the transaction came across none that can't be read")
				}
				return nil
			})
			checkUnreadable(t, m, x.table)
		})
		for name, end := range map[string]func(storage.Tx) error{"deleted": x.gone, "dropped": dropAll} {
			t.Run(x.table+" "+name, func(t *testing.T) {
				m := spoiltRow(t)
				update(t, m, end)
				view(t, m, func(tx storage.Tx) error { x.absent(t, tx, false); return nil })
				checkUnreadable(t, m)
				update(t, m, x.put)
				view(t, m, func(tx storage.Tx) error { return x.get(tx) })
			})
		}
		t.Run(x.table+" put anew", func(t *testing.T) {
			m := spoiltRow(t)
			update(t, m, x.put)
			checkUnreadable(t, m)
			view(t, m, func(tx storage.Tx) error {
				if len(x.finds) > 0 {
					x.find(t, tx, 1)
				}
				return x.get(tx)
			})
			update(t, m, dropAll)
			view(t, m, func(tx storage.Tx) error { return x.get(tx) })
		})
	}
	t.Run("filed rows", func(t *testing.T) { unreadableFiled(t, newMeta(t), spoil) })
}

// absent checks that the row is not found, and whether it is there nevertheless.
func (x spoiled) absent(t *testing.T, tx storage.Tx, unreadable bool) {
	t.Helper()
	err := x.get(tx)
	if !errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrUnreadable) != unreadable {
		t.Errorf("get: %v, want ErrNotFound, ErrUnreadable %t", err, unreadable)
	}
	x.find(t, tx, 0)
}

func (x spoiled) find(t *testing.T, tx storage.Tx, want int) {
	t.Helper()
	for i, find := range x.finds {
		met := 0
		if err := find(tx, func() { met++ }); err != nil || met != want {
			t.Errorf("iterator %d found %d rows, %v, want %d", i, met, err, want)
		}
	}
}

// dropAll drops all rows that can't be read, and those that it dropped before.
func dropAll(tx storage.Tx) error {
	var rows []storage.UnreadableRow
	err := tx.Unreadable(func(row storage.UnreadableRow) error { rows = append(rows, row); return nil })
	for _, row := range rows {
		err = first(err, tx.DropUnreadable(row), tx.DropUnreadable(row))
	}
	return err
}

// checkUnreadable checks of which tables there are rows that can't be read.
func checkUnreadable(t *testing.T, m storage.Meta, want ...string) {
	t.Helper()
	var tables []string
	view(t, m, func(tx storage.Tx) error {
		tables = nil
		return tx.Unreadable(func(row storage.UnreadableRow) error { tables = append(tables, row.Table); return nil })
	})
	checkRow(t, "tables with rows that can't be read", want)(tables, nil)
}

// unreadableFiled: what other rows say of one that can't be read holds.
func unreadableFiled(t *testing.T, m storage.Meta, spoil func(t *testing.T, m storage.Meta) storage.Meta) {
	d, e := dig("blob"), dig("released")
	pin := storage.PinRow{Reference: "docker.io/library/redis:7", Root: d, Holds: []digest.Digest{d}, Created: noon}
	blob := storage.BlobRow{Digest: d, Size: 5, Kind: storage.KindHosted, Created: noon, Accessed: noon}
	update(t, m, func(tx storage.Tx) error {
		return first(
			tx.PutTag(storage.TagRow{Repo: repoA, Tag: "1", Digest: d, Checked: noon}),
			tx.PutTag(storage.TagRow{Repo: repoB, Tag: "1", Digest: e, Checked: noon}),
			tx.PutPin(pin), tx.PutBlock(storage.BlockRow{Digest: e, Created: noon}),
			tx.PutContent(storage.ContentRow{Repo: repoA, Digest: d, Size: 5, Pushed: noon}),
			tx.PutContent(storage.ContentRow{Repo: repoA, Digest: e, Size: 7, Pushed: noon, Released: noon}),
		)
	})
	m = spoil(t, m)
	update(t, m, func(tx storage.Tx) error { return tx.PutBlob(blob) })
	tag := storage.TagRow{Repo: repoA, Tag: "1", Digest: d}
	content := storage.ContentRow{Repo: repoA, Digest: d, Size: 5, Pushed: noon}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Tag", tag)(tx.Tag(repoA, "1"))
		checkList(t, "Tags", func(fn func(storage.TagRow) error) error { return tx.Tags(repoA, "", fn) }, tag)
		checkRow(t, "Content", content)(tx.Content(repoA, d))
		checkAbsent[storage.ContentRow](t, "Content without its blob")(tx.Content(repoA, e))
		checkRow(t, "Pinned", true)(tx.Pinned(d))
		checkAllPinned(t, tx, d)
		checkRow(t, "Blocked", true)(tx.Blocked(e))
		checkList(t, "PinsOf", func(fn func(storage.PinRow) error) error { return tx.PinsOf(d, fn) },
			storage.PinRow{Reference: pin.Reference, Holds: pin.Holds})
		return nil
	})
	update(t, m, func(tx storage.Tx) error { // a tag that moves is no longer found by what it was
		return first(tx.PutTag(storage.TagRow{Repo: repoA, Tag: "1", Digest: e, Checked: noon}), tx.PutContent(content), tx.DeleteTag(repoB, "1"))
	})
	view(t, m, func(tx storage.Tx) error {
		n := 0
		err := tx.TagsOf(d, func(oci.Repo, string) error { n++; return nil })
		checkRow(t, "tags of the first blob", 0)(n, err)
		err = tx.TagsOf(e, func(oci.Repo, string) error { n++; return nil })
		checkRow(t, "tags of the second", 1)(n, err)
		return nil
	})
	update(t, m, dropAll)
	checkUnreadable(t, m)
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "ContentBytes", int64(5))(tx.ContentBytes(repoA.Upstream))
		checkRow(t, "Pinned after it was dropped", false)(tx.Pinned(d))
		checkAllPinned(t, tx)
		checkRow(t, "HasRight to content that was dropped", false)(tx.HasRight(repoA, e))
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return tx.DeleteContent(repoA, d) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "ContentBytes of nothing", int64(0))(tx.ContentBytes(repoA.Upstream))
		return nil
	})
}
