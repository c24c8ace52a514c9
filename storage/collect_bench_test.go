package storage_test

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
)

// BenchmarkCollect walks a store of 1.1 million blobs in which nothing is
// garbage, and says how much the heap holds in the middle of it.
func BenchmarkCollect(b *testing.B) {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	storagetest.Generate(b, db, storagetest.Large)
	s := storage.New(storage.Options{Meta: db, Now: func() time.Time { return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC) }})
	c := storage.NewCollector(storage.CollectOptions{Store: s, Hosted: []string{"local"}, Grace: time.Hour, Pulled: 90 * 24 * time.Hour})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for range b.N {
		if _, err := c.Collect(b.Context(), false, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapSys-before.HeapSys)/(1<<20), "MiB-heap-growth")
	b.ReportMetric(float64(storagetest.Large.Blobs())*float64(b.N)/b.Elapsed().Seconds(), "blobs/s")
}
