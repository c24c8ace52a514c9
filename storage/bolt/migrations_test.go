package bolt_test

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestMigrate opens files as earlier versions wrote them: rows stay, and what
// came since works.
func TestMigrate(t *testing.T) {
	v12 := []string{"taken"}
	v11 := append([]string{"learn"}, v12...)
	v10 := append([]string{"pulls", "samples"}, v11...)
	v9 := append([]string{"published"}, v10...)
	v7 := append([]string{"imported"}, v9...)
	v6 := append([]string{"content", "content-by-digest", "content-bytes", "uploads"}, v7...)
	v5 := append([]string{"conversions", "converted-tags", "retired", "jobs-by-order", "tasks", "tasks-by-order"}, v6...)
	v4 := append([]string{"missing"}, v5...)
	v3 := append([]string{"tags-by-digest", "manifests-by-named", "upstream-referrers", "events"}, v4...)
	later := map[uint32][]string{1: append([]string{"pins", "pins-by-digest", "blocks", "heat"}, v3...), 2: v3, 3: v4, 4: v5, 5: v6, 6: v7, 7: v9, 8: v9, 9: v10, 10: v11, 11: v12}
	for version, buckets := range later {
		path := filepath.Join(t.TempDir(), "meta.db")
		d := digest.FromString("kept")
		row := storage.BlobRow{Digest: d, Kind: storage.KindBlob, Size: 7}
		m := storage.ManifestRow{Digest: digest.FromString("m"), Manifest: oci.Manifest{Layers: []v1.Descriptor{{Digest: d}}}}
		db, err := bolt.Open(path, bolt.Options{})
		if err == nil {
			err = errors.Join(db.Update(t.Context(), func(tx storage.Tx) error {
				return errors.Join(tx.PutBlob(row), tx.PutManifest(m),
					tx.PutJob(storage.JobRow{Layer: oci.Layer{Descriptor: v1.Descriptor{Digest: d}}, SpanSize: 5}),
					tx.PutTag(storage.TagRow{Repo: oci.Repo{Upstream: "u", Name: "n"}, Tag: "t", Digest: m.Digest}))
			}), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatalf("open with bbolt: %v", err)
		}
		err = raw.Update(func(tx *bbolt.Tx) error {
			for _, b := range buckets {
				if err := tx.DeleteBucket([]byte(b)); err != nil {
					return err
				}
			}
			if _, err := tx.CreateBucket([]byte("jobs-by-age")); err != nil {
				return err
			}
			return tx.Bucket([]byte("schema")).Put([]byte("version"), binary.BigEndian.AppendUint32(nil, version))
		})
		if err := errors.Join(err, raw.Close()); err != nil {
			t.Fatalf("change with bbolt: %v", err)
		}
		for range 2 { // the second time it is up to date
			db, err := bolt.Open(path, bolt.Options{})
			if err != nil {
				t.Fatalf("open version %d: %v", version, err)
			}
			err = db.Update(t.Context(), func(tx storage.Tx) error {
				if got, err := tx.Blob(d); err != nil || got.Size != row.Size {
					t.Errorf("a row of version %d: %+v, %v", version, got, err)
				}
				var by, tags, jobs int
				err := errors.Join(
					tx.Jobs(func(storage.JobRow) error { jobs++; return nil }),
					tx.NamedBy(d, func(digest.Digest) error { by++; return nil }),
					tx.TagsOf(m.Digest, func(oci.Repo, string) error { tags++; return nil }),
				)
				if by != 1 || tags != 1 || jobs != 1 {
					t.Errorf("a blob of version %d is named by %d manifests, its manifest by %d tags, and has %d jobs, want 1 each", version, by, tags, jobs)
				}
				return errors.Join(err,
					tx.PutPin(storage.PinRow{Reference: "a/b:1", Root: d, Holds: []digest.Digest{d}}),
					tx.PutBlock(storage.BlockRow{Digest: d}),
					tx.PutHeat(storage.HeatRow{Digest: d, SpanSize: 1}),
					tx.PutMissing(storage.MissingRow{Reference: "1"}),
					tx.PutContent(storage.ContentRow{Repo: oci.Repo{Upstream: "a", Name: "b"}, Digest: d}),
					tx.PutUpload(storage.UploadRow{ID: "1"}),
				)
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Errorf("use a migrated file: %v", err)
			}
		}
	}
}
