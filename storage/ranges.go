package storage

import (
	"slices"

	"github.com/sociable/sociable/internal/oci"
)

// extents are sorted, disjoint, non-adjacent ranges: which bytes are there.
type extents []oci.Range

// add joins r and says how many of its bytes were not there yet.
func (x *extents) add(r oci.Range) (added int64) {
	if r.Len() <= 0 {
		return 0
	}
	list := *x
	i, _ := slices.BinarySearchFunc(list, r.Off, func(e oci.Range, off int64) int {
		if e.End < off {
			return -1
		}
		return 1
	}) // the first that ends at or after r begins: it touches r, or is behind
	added = r.Len()
	j := i
	for ; j < len(list) && list[j].Off <= r.End; j++ {
		added -= max(0, min(list[j].End, r.End)-max(list[j].Off, r.Off))
	}
	if j > i {
		r = oci.Range{Off: min(r.Off, list[i].Off), End: max(r.End, list[j-1].End)}
	}
	*x = slices.Replace(list, i, j, r)
	return added
}

// total is the number of bytes in rs.
func total(rs []oci.Range) (n int64) {
	for _, r := range rs {
		n += r.Len()
	}
	return n
}
