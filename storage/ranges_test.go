package storage

import (
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// FuzzExtents adds ranges, three bytes each, and compares with a bitmap.
func FuzzExtents(f *testing.F) {
	f.Add([]byte{0, 10, 20, 10, 5, 10})
	f.Add([]byte{10, 5, 0, 5, 20, 5, 5, 15})
	f.Add([]byte{1, 1, 3, 1, 5, 1, 0, 9})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var x extents
		var bits [600]bool
		for ; len(ops) >= 2; ops = ops[2:] {
			r := oci.Range{Off: int64(ops[0]), End: int64(ops[0]) + int64(ops[1])}
			var want int64
			for i := r.Off; i < r.End; i++ {
				if !bits[i] {
					bits[i] = true
					want++
				}
			}
			if got := x.lacks(r); got != want {
				t.Fatalf("%v is said to lack %d bytes, want %d", r, got, want)
			}
			if got := x.add(r); got != want {
				t.Fatalf("adding %v to have %d new bytes, want %d", r, got, want)
			}
			checkExtents(t, x, bits[:])
		}
	})
}

func checkExtents(t *testing.T, x extents, bits []bool) {
	t.Helper()
	var sum, want int64
	for i, r := range x {
		if r.Len() <= 0 || i > 0 && r.Off <= x[i-1].End {
			t.Fatalf("not sorted, disjoint and non-adjacent: %v", x)
		}
		sum += r.Len()
		for j := r.Off; j < r.End; j++ {
			if !bits[j] {
				t.Fatalf("%v has byte %d, which was never added", x, j)
			}
		}
	}
	for _, b := range bits {
		if b {
			want++
		}
	}
	if sum != want || total(x) != want {
		t.Fatalf("%v has %d bytes, want %d", x, sum, want)
	}
}
