package proxy

import (
	"slices"

	"github.com/sociable/sociable/internal/oci"
)

// extents is a set of bytes: sorted, disjoint, non-adjacent runs.
type extents []oci.Range

// add joins r to the set.
func (e extents) add(r oci.Range) extents {
	if r.Len() <= 0 {
		return e
	}
	i, _ := slices.BinarySearchFunc(e, r.Off, func(x oci.Range, off int64) int {
		if x.End < off {
			return -1
		}
		return 1
	})
	j := i
	for j < len(e) && e[j].Off <= r.End {
		r.Off, r.End = min(r.Off, e[j].Off), max(r.End, e[j].End)
		j++
	}
	return slices.Replace(e, i, j, r)
}

// sub takes r out of the set.
func (e extents) sub(r oci.Range) extents {
	if r.Len() <= 0 {
		return e
	}
	var out extents
	for _, x := range e {
		if left := (oci.Range{Off: x.Off, End: min(x.End, r.Off)}); left.Len() > 0 {
			out = append(out, left)
		}
		if right := (oci.Range{Off: max(x.Off, r.End), End: x.End}); right.Len() > 0 {
			out = append(out, right)
		}
	}
	return out
}

// at gives the end of the run that holds off; off itself where none does.
func (e extents) at(off int64) int64 {
	for _, x := range e {
		if x.Off <= off && off < x.End {
			return x.End
		}
	}
	return off
}

// next gives the start of the first run at or after off; end where there is none.
func (e extents) next(off, end int64) int64 {
	for _, x := range e {
		if x.End > off {
			return min(max(x.Off, off), end)
		}
	}
	return end
}

// missing gives what of r is not in the set.
func (e extents) missing(r oci.Range) extents {
	out := extents{}.add(r)
	for _, x := range e {
		out = out.sub(x)
	}
	return out
}

// bytes is how much the set holds.
func (e extents) bytes() (n int64) {
	for _, x := range e {
		n += x.Len()
	}
	return n
}
