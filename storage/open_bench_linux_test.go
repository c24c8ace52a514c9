package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// generated is the folder of a large store's rows.
func generated(b *testing.B, s storagetest.Scale) (dir string) {
	b.Helper()
	dir = b.TempDir()
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	storagetest.Generate(b, meta, s)
	if err := meta.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

// openRows opens it as a server does, until the first byte can be written.
func openRows(b *testing.B, dir string, o storage.Options) (*storage.Store, func()) {
	b.Helper()
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	blobs, err := disk.New(dir)
	if err != nil {
		b.Fatal(err)
	}
	o.Blobs, o.Meta = blobs, meta
	s := storage.New(o)
	w, err := s.Create(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return s, func() {
		if err := meta.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store of 110,000 blobs, and of ten times as many, and
// counts what is in it: its rows, and by their names its files. The rows are in
// the page cache, or are not.
func BenchmarkOpen(b *testing.B) {
	for _, images := range []int{1000, 10_000} {
		scale := storagetest.Large
		scale.Images = images
		b.Run(fmt.Sprint(scale.Blobs()), func(b *testing.B) {
			dir := generated(b, scale)
			makeFiles(b, dir)
			for _, from := range []string{"cache", "medium"} {
				b.Run(from, func(b *testing.B) { benchmarkOpen(b, dir, int64(scale.Blobs()), from == "cache") })
			}
		})
	}
}

func benchmarkOpen(b *testing.B, dir string, want int64, cached bool) {
	file := filepath.Join(dir, "meta.db")
	st, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !cached {
			b.StopTimer()
			forget(b, file)
			b.StartTimer()
		}
		s, stop := openRows(b, dir, storage.Options{})
		var blobs int64
		u := s.Usage()
		for _, n := range u.Blobs {
			blobs += n
		}
		if blobs != want || u.Stray > 0 {
			b.Fatalf("%d blobs are counted, and %d bytes of strays", blobs, u.Stray)
		}
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(st.Size())/1e6, "MB-of-rows")
}

// makeFiles makes an empty file for each row.
func makeFiles(b *testing.B, dir string) {
	b.Helper()
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	err = meta.View(b.Context(), func(tx storage.Tx) error {
		return tx.Blobs(func(row storage.BlobRow) error {
			folder := filepath.Join(dir, "blobs", "sha256", row.Digest.Encoded()[:2])
			name := filepath.Join(folder, row.Digest.Encoded())
			err := os.WriteFile(name, nil, 0o400)
			if errors.Is(err, os.ErrNotExist) {
				err = errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(name, nil, 0o400))
			}
			return err
		})
	})
	if err := errors.Join(err, meta.Close()); err != nil {
		b.Fatal(err)
	}
}

// forget takes a file out of the page cache.
func forget(b *testing.B, file string) {
	b.Helper()
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkVictims looks for what to evict among 1,100,000 blobs: for one layer,
// and for a twentieth of a full store.
func BenchmarkVictims(b *testing.B) {
	s, stop := openRows(b, generated(b, storagetest.Large), storage.Options{})
	defer stop()
	for name, need := range map[string]int64{"a layer": 100 << 20, "a twentieth": s.Usage().Total() / 20} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, err := s.Victims(b.Context(), need); err != nil || n == 0 {
					b.Fatalf("%d victims, %v", n, err)
				}
			}
		})
	}
}
