package storage_test

import (
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// BenchmarkHeat is what a range of a whole layer costs more for being noted:
// any of 400 spans of 64 layers, from all sides.
func BenchmarkHeat(b *testing.B) {
	s := storage.New(storage.Options{})
	ds := make([]digest.Digest, 64)
	for i := range ds {
		ds[i] = digest.FromString(string(rune('a' + i)))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			n := rng.Uint32()
			off := int64(n>>8%400) << 20
			s.Heat(ds[n%64], oci.Range{Off: off, End: off + 64<<10})
		}
	})
}
