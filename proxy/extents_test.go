package proxy

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/internal/oci"
)

func TestExtents(t *testing.T) {
	tests := []struct {
		name string
		add  []oci.Range
		sub  oci.Range
		want extents
	}{
		{"one", []oci.Range{{Off: 0, End: 5}}, oci.Range{}, extents{{Off: 0, End: 5}}},
		{"adjacent join", []oci.Range{{Off: 0, End: 5}, {Off: 5, End: 9}}, oci.Range{}, extents{{Off: 0, End: 9}}},
		{"apart", []oci.Range{{Off: 6, End: 9}, {Off: 0, End: 5}}, oci.Range{}, extents{{Off: 0, End: 5}, {Off: 6, End: 9}}},
		{"bridge", []oci.Range{{Off: 6, End: 9}, {Off: 0, End: 5}, {Off: 4, End: 7}}, oci.Range{}, extents{{Off: 0, End: 9}}},
		{"empty", []oci.Range{{Off: 3, End: 3}}, oci.Range{}, nil},
		{"hole", []oci.Range{{Off: 0, End: 9}}, oci.Range{Off: 3, End: 5}, extents{{Off: 0, End: 3}, {Off: 5, End: 9}}},
		{"cut all", []oci.Range{{Off: 3, End: 9}}, oci.Range{Off: 0, End: 20}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e extents
			for _, r := range tt.add {
				e = e.add(r)
			}
			if tt.sub.Len() > 0 {
				e = e.sub(tt.sub)
			}
			if diff := cmp.Diff(tt.want, e); diff != "" {
				t.Errorf("extents (-want +got):\n%s", diff)
			}
		})
	}
}

// TestExtentsModel holds random operations against a set of single bytes.
func TestExtentsModel(t *testing.T) {
	const size = 64
	rnd := rand.New(rand.NewPCG(1, 2))
	var e extents
	var model [size]bool
	for range 5000 {
		off := rnd.Int64N(size)
		r := oci.Range{Off: off, End: off + rnd.Int64N(size-off+1)}
		add := rnd.IntN(2) == 0
		if add {
			e = e.add(r)
		} else {
			e = e.sub(r)
		}
		for i := r.Off; i < r.End; i++ {
			model[i] = add
		}
		checkExtents(t, e, model[:])
	}
}

func checkExtents(t *testing.T, e extents, model []bool) {
	t.Helper()
	var n int64
	for i := range model {
		at := int64(i)
		if got := e.at(at) > at; got != model[i] {
			t.Fatalf("%v: byte %d is in: %v, want %v", e, i, got, model[i])
		}
		if model[i] {
			n++
		}
	}
	if e.bytes() != n {
		t.Fatalf("%v: %d bytes, want %d", e, e.bytes(), n)
	}
	for i := 1; i < len(e); i++ {
		if e[i-1].End >= e[i].Off {
			t.Fatalf("%v is not sorted, disjoint and apart", e)
		}
	}
	all := oci.Range{Off: 0, End: int64(len(model))}
	if got := e.missing(all).bytes(); got != all.Len()-n {
		t.Fatalf("%v: %d bytes missing, want %d", e, got, all.Len()-n)
	}
}
