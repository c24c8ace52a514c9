package indexer

import (
	"cmp"
	"slices"

	"github.com/sociable/sociable/internal/oci"
)

// Running gives the layers that are being indexed at this moment, by digest.
func (x *Indexer) Running() []oci.Building {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := make([]oci.Building, 0, len(x.claimed))
	for k, read := range x.claimed {
		list = append(list, oci.Building{Layer: k.layer, SpanSize: k.spanSize, Bytes: read.Load()})
	}
	slices.SortFunc(list, func(a, b oci.Building) int {
		return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.SpanSize, b.SpanSize))
	})
	return list
}
