package bolt_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

const benchRows = 100_000

func benchDigest(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }

func fill(b *testing.B, db *bolt.DB) (oci.Repo, []digest.Digest) {
	b.Helper()
	repo := oci.Repo{Upstream: "docker.io", Name: "library/redis"}
	ds := make([]digest.Digest, benchRows)
	err := db.Update(b.Context(), func(tx storage.Tx) error {
		for i := range ds {
			ds[i] = benchDigest(i)
			row := storage.BlobRow{Digest: ds[i], Size: 1, Kind: storage.KindBlob, Created: time.Now(), Accessed: time.Now()}
			if err := tx.PutBlob(row); err != nil {
				return err
			}
			if err := tx.PutRight(repo, ds[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return repo, ds
}

// BenchmarkViewBlob is what a GET of a blob reads: the right and the row.
func BenchmarkViewBlob(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	repo, ds := fill(b, db)
	look := func(d digest.Digest) error {
		return db.View(b.Context(), func(tx storage.Tx) error {
			if ok, err := tx.HasRight(repo, d); !ok || err != nil {
				return fmt.Errorf("right: %t, %w", ok, err)
			}
			_, err := tx.Blob(d)
			return err
		})
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := look(ds[i*7919%len(ds)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if err := look(ds[i*7919%len(ds)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("scan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			err := db.View(b.Context(), func(tx storage.Tx) error {
				return tx.Blobs(func(storage.BlobRow) error { return nil })
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkUpdate has many small durable updates at once: fsyncs are shared.
func BenchmarkUpdate(b *testing.B) {
	for _, crowd := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(crowd), func(b *testing.B) {
			db := open(b, filepath.Join(b.TempDir(), "meta.db"), bolt.Options{})
			repo := oci.Repo{Upstream: "docker.io", Name: "library/redis"}
			b.SetParallelism(max(1, crowd/2))
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					d := benchDigest(i)
					if err := db.Update(b.Context(), func(tx storage.Tx) error { return tx.PutRight(repo, d) }); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
