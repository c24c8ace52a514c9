package oci

import "slices"

// Extents is a set of bytes of a blob: sorted, disjoint, non-adjacent runs. The
// zero value is empty. It is not safe for concurrent use.
type Extents []Range

// touching gives the part [i, j) of x that overlaps or adjoins r, and how many
// bytes of r are not in it.
func (x Extents) touching(r Range) (i, j int, missing int64) {
	i, _ = slices.BinarySearchFunc(x, r.Off, func(e Range, off int64) int {
		if e.End < off {
			return -1
		}
		return 1
	})
	missing = max(0, r.Len())
	for j = i; j < len(x) && x[j].Off <= r.End; j++ {
		missing -= max(0, min(x[j].End, r.End)-max(x[j].Off, r.Off))
	}
	return i, j, missing
}

// Lacks is how many bytes of r are not in the set.
func (x Extents) Lacks(r Range) int64 {
	_, _, missing := x.touching(r)
	return missing
}

// Add joins r to the set and says how many of its bytes were not in it.
func (x *Extents) Add(r Range) (added int64) {
	if r.Len() <= 0 {
		return 0
	}
	i, j, added := x.touching(r)
	if j > i {
		r = Range{Off: min(r.Off, (*x)[i].Off), End: max(r.End, (*x)[j-1].End)}
	}
	*x = slices.Replace(*x, i, j, r)
	return added
}

// Sub takes r out of the set.
func (x *Extents) Sub(r Range) {
	i, j, _ := x.touching(r)
	if r.Len() <= 0 || i == j {
		return
	}
	var left Extents // at most two
	if before := (Range{Off: (*x)[i].Off, End: min((*x)[i].End, r.Off)}); before.Len() > 0 {
		left = append(left, before)
	}
	if after := (Range{Off: max((*x)[j-1].Off, r.End), End: (*x)[j-1].End}); after.Len() > 0 {
		left = append(left, after)
	}
	*x = slices.Replace(*x, i, j, left...)
}

// behind gives the index of the first run that ends behind off.
func (x Extents) behind(off int64) int {
	i, _ := slices.BinarySearchFunc(x, off, func(e Range, off int64) int {
		if e.End <= off {
			return -1
		}
		return 1
	})
	return i
}

// At gives the end of the run that has the byte at off; off itself where none
// does.
func (x Extents) At(off int64) int64 {
	if i := x.behind(off); i < len(x) && x[i].Off <= off {
		return x[i].End
	}
	return off
}

// Next gives the start of the first run at or after off, or off itself within
// one; end where there is none before it.
func (x Extents) Next(off, end int64) int64 {
	if i := x.behind(off); i < len(x) {
		return min(max(x[i].Off, off), end)
	}
	return end
}

// Missing gives what of r is not in the set.
func (x Extents) Missing(r Range) Extents {
	var out Extents
	for i := x.behind(r.Off); i < len(x) && x[i].Off < r.End; i++ {
		if r.Off < x[i].Off {
			out = append(out, Range{Off: r.Off, End: x[i].Off})
		}
		r.Off = x[i].End
	}
	if r.Len() > 0 {
		out = append(out, r)
	}
	return out
}

// Bytes is how many there are in the set.
func (x Extents) Bytes() (n int64) {
	for _, e := range x {
		n += e.Len()
	}
	return n
}
