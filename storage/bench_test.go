package storage_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// benchStore is on the real medium, every sync included.
func benchStore(b *testing.B, o storage.Options) *storage.Store {
	b.Helper()
	dir := b.TempDir()
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	blobs, err := disk.New(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := meta.Close(); err != nil {
			b.Error(err)
		}
	})
	o.Meta, o.Blobs = meta, blobs
	return storagetest.Start(b, dir, o)
}

// BenchmarkGet is what serving a warm blob asks of the store: the right and the
// row, then the open file.
func BenchmarkGet(b *testing.B) {
	s := benchStore(b, storage.Options{})
	repo := oci.Repo{Upstream: "docker.io", Name: "library/redis"}
	ds := make([]digest.Digest, 1000)
	for i := range ds {
		body := fmt.Append(nil, i)
		ds[i] = digest.FromBytes(body)
		err := s.Put(b.Context(), storage.BlobRow{Digest: ds[i], Kind: storage.KindSpan}, body, func(tx storage.Tx) error {
			return tx.PutRight(repo, ds[i])
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			d := ds[i%len(ds)]
			err := s.View(b.Context(), func(tx storage.Tx) error {
				if ok, err := tx.HasRight(repo, d); !ok || err != nil {
					return fmt.Errorf("right: %t, %w", ok, err)
				}
				_, err := tx.Blob(d)
				return err
			})
			if err != nil {
				b.Error(err)
				return
			}
			blob, err := s.Open(b.Context(), d)
			if err != nil {
				b.Error(err)
				return
			}
			if err := blob.Close(); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkCommit stores spans of 64 KiB, eight at a time.
func BenchmarkCommit(b *testing.B) {
	body := storagetest.Bytes("x", 64<<10)
	for name, dur := range map[string]storage.Durability{"cached": storage.Cached, "durable": storage.Durable} {
		b.Run(name, func(b *testing.B) {
			s := benchStore(b, storage.Options{})
			b.SetBytes(int64(len(body)))
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					own := fmt.Append(nil, time.Now(), b.N)
					row := storage.BlobRow{Digest: digest.FromBytes(append(own, body...)), Kind: storage.KindSpan}
					w, err := s.Create(b.Context())
					if err != nil {
						b.Error(err)
						return
					}
					_, err = w.Write(append(own, body...))
					if err == nil {
						err = w.Commit(b.Context(), row, dur)
					}
					if err != nil {
						b.Error(err)
					}
					if err := w.Close(); err != nil {
						b.Error(err)
					}
				}
			})
			if err := s.Flush(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}
