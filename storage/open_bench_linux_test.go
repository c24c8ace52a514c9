package storage_test

import (
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

// BenchmarkOpen opens a store of 1,100,000 blobs and counts what is in it, with
// its rows in the page cache and without.
func BenchmarkOpen(b *testing.B) {
	dir := generated(b, storagetest.Large)
	file := filepath.Join(dir, "meta.db")
	st, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	for _, cached := range []bool{true, false} {
		name := "cached"
		if !cached {
			name = "from the medium"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !cached {
					b.StopTimer()
					forget(b, file)
					b.StartTimer()
				}
				s, stop := openRows(b, dir, storage.Options{})
				var blobs int64
				for _, n := range s.Usage().Blobs {
					blobs += n
				}
				if blobs != int64(storagetest.Large.Blobs()) {
					b.Fatalf("%d blobs are counted", blobs)
				}
				b.StopTimer()
				stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(storagetest.Large.Blobs()), "blobs")
			b.ReportMetric(float64(st.Size())/1e6, "MB-of-rows")
		})
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
