package oci

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExtents(t *testing.T) {
	tests := []struct {
		name string
		add  []Range
		sub  Range
		want Extents
	}{
		{"one", []Range{{0, 5}}, Range{}, Extents{{0, 5}}},
		{"adjacent join", []Range{{0, 5}, {5, 9}}, Range{}, Extents{{0, 9}}},
		{"apart", []Range{{6, 9}, {0, 5}}, Range{}, Extents{{0, 5}, {6, 9}}},
		{"bridge", []Range{{6, 9}, {0, 5}, {4, 7}}, Range{}, Extents{{0, 9}}},
		{"empty", []Range{{3, 3}}, Range{}, nil},
		{"hole", []Range{{0, 9}}, Range{3, 5}, Extents{{0, 3}, {5, 9}}},
		{"cut all", []Range{{3, 9}}, Range{0, 20}, nil},
		{"cut many", []Range{{0, 2}, {4, 6}, {8, 10}}, Range{1, 9}, Extents{{0, 1}, {9, 10}}},
		{"cut beside", []Range{{0, 2}, {4, 6}}, Range{2, 4}, Extents{{0, 2}, {4, 6}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var x Extents
			for _, r := range tt.add {
				x.Add(r)
			}
			x.Sub(tt.sub)
			if diff := cmp.Diff(tt.want, x); diff != "" && len(tt.want)+len(x) > 0 {
				t.Errorf("extents (-want +got):\n%s", diff)
			}
		})
	}
}

// TestExtentsModel holds random operations against a set of single bytes.
func TestExtentsModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	ops := make([]byte, 3*5000)
	for i := range ops {
		ops[i] = byte(rnd.Uint32() % 64)
	}
	checkExtents(t, ops)
}

// FuzzExtents adds ranges and takes them out, three bytes each, and compares
// with a set of single bytes.
func FuzzExtents(f *testing.F) {
	f.Add([]byte{0, 0, 10, 0, 20, 10, 0, 5, 10})
	f.Add([]byte{0, 10, 5, 0, 0, 5, 0, 20, 5, 1, 5, 15})
	f.Add([]byte{0, 1, 1, 0, 3, 1, 0, 5, 1, 1, 0, 9})
	f.Fuzz(checkExtents)
}

func checkExtents(t *testing.T, ops []byte) {
	var x Extents
	var model [600]bool
	for ; len(ops) >= 3; ops = ops[3:] {
		r := Range{Off: int64(ops[1]), End: int64(ops[1]) + int64(ops[2])}
		add := ops[0]%2 == 0
		var lacks int64
		for i := r.Off; i < r.End; i++ {
			if !model[i] {
				lacks++
			}
			model[i] = add
		}
		if got := x.Lacks(r); got != lacks {
			t.Fatalf("%v is said to lack %d bytes of %v, want %d", x, got, r, lacks)
		}
		if !add {
			x.Sub(r)
		} else if got := x.Add(r); got != lacks {
			t.Fatalf("adding %v to have %d new bytes, want %d", r, got, lacks)
		}
		compareExtents(t, x, model[:])
	}
}

func compareExtents(t *testing.T, x Extents, model []bool) {
	t.Helper()
	var n int64
	next := int64(len(model))
	for i := len(model) - 1; i >= 0; i-- {
		at := int64(i)
		if got := x.At(at) > at; got != model[i] {
			t.Fatalf("%v: byte %d is in: %v, want %v", x, i, got, model[i])
		}
		if model[i] {
			next = at
			n++
		}
		if got := x.Next(at, int64(len(model))); got != next {
			t.Fatalf("%v: the first from %d on is %d, want %d", x, at, got, next)
		}
	}
	if x.Bytes() != n {
		t.Fatalf("%v: %d bytes, want %d", x, x.Bytes(), n)
	}
	for i, r := range x {
		if r.Len() <= 0 || i > 0 && x[i-1].End >= r.Off {
			t.Fatalf("%v is not sorted, disjoint and apart", x)
		}
	}
	all := Range{Off: 0, End: int64(len(model))}
	if got := x.Missing(all).Bytes(); got != all.Len()-n {
		t.Fatalf("%v: %d bytes missing, want %d", x, got, all.Len()-n)
	}
}
