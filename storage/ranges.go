package storage

import (
	"slices"

	"github.com/sociable/sociable/internal/oci"
)

// extents are sorted, disjoint, non-adjacent ranges: which bytes are there.
type extents []oci.Range

// touching gives the part [i, j) of x that overlaps or adjoins r, and how many
// bytes of r are not in it.
func (x extents) touching(r oci.Range) (i, j int, missing int64) {
	i, _ = slices.BinarySearchFunc(x, r.Off, func(e oci.Range, off int64) int {
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

// lacks is how many bytes of r are not there yet.
func (x extents) lacks(r oci.Range) int64 {
	_, _, missing := x.touching(r)
	return missing
}

// add joins r and says how many of its bytes were not there yet.
func (x *extents) add(r oci.Range) (added int64) {
	if r.Len() <= 0 {
		return 0
	}
	i, j, added := x.touching(r)
	if j > i {
		r = oci.Range{Off: min(r.Off, (*x)[i].Off), End: max(r.End, (*x)[j-1].End)}
	}
	*x = slices.Replace(*x, i, j, r)
	return added
}

// total is the number of bytes in rs.
func total(rs []oci.Range) (n int64) {
	for _, r := range rs {
		n += r.Len()
	}
	return n
}
