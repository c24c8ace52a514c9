package proxy

import (
	"slices"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// maxAside bounds what of later parts one client's source has in memory.
const maxAside = 256 << 10

// pieceOf is what a span has of a part.
type pieceOf struct {
	oci.Range
	body []byte
}

// wantAside gives what of sp, which is passed on for another part, later ones are to
// have, so that it is not asked for again: as far as that is little.
func (s *spanSource) wantAside(sp ztoc.Span) (list []*pieceOf) {
	left := int64(maxAside)
	for _, x := range s.aside {
		left -= x.Len()
	}
	for _, r := range s.unsent {
		r.Off, r.End = max(r.Off, sp.Off), min(r.End, sp.End)
		if r.Len() <= 0 || r.Len() > left || s.isAside(r) >= 0 {
			continue
		}
		left -= r.Len()
		list = append(list, &pieceOf{Range: r, body: make([]byte, 0, r.Len())})
	}
	return list
}

// isAside is the place of a piece that has all of r, or -1.
func (s *spanSource) isAside(r oci.Range) int {
	return slices.IndexFunc(s.aside, func(x *pieceOf) bool { return x.Off <= r.Off && r.End <= x.End })
}

// fromAside takes r from what was put aside; nil: it was not.
func (s *spanSource) fromAside(r oci.Range) []byte {
	i := s.isAside(r)
	if i < 0 {
		return nil
	}
	x := s.aside[i]
	s.aside = slices.Delete(s.aside, i, i+1)
	return x.body[r.Off-x.Off : r.End-x.Off]
}

// pieces picks its list out of the bytes from at on.
type pieces struct {
	at   int64
	list []*pieceOf
}

func (ps *pieces) Write(p []byte) (int, error) {
	end := ps.at + int64(len(p))
	for _, x := range ps.list {
		if off, to := max(x.Off, ps.at), min(x.End, end); off < to {
			x.body = append(x.body, p[off-ps.at:to-ps.at]...)
		}
	}
	ps.at = end
	return len(p), nil
}
