package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// maxHeat bounds the ranges that are noted between two filings, 16 bytes each.
// Half of it has them filed.
const maxHeat = 1 << 16

// heat notes in memory which bytes of layers were read by range. Which
// spans that were is found out when it is filed: to look it up for every range
// would cost more than to send a small one.
type heat struct {
	mu sync.Mutex
	by map[digest.Digest]*oci.Extents
	n  int // ranges in all
}

// Heat notes that r was read of d. It costs one short lock and no transaction.
// What is no indexed layer is forgotten when heat is filed.
func (s *Store) Heat(d digest.Digest, r oci.Range) {
	h := &s.heat
	h.mu.Lock()
	x := h.by[d]
	if x == nil {
		if h.by == nil {
			h.by = map[digest.Digest]*oci.Extents{}
		}
		x = new(oci.Extents)
		h.by[d] = x
	}
	if h.n < maxHeat {
		h.n -= len(*x)
		x.Add(r)
		h.n += len(*x)
	}
	full := h.n >= maxHeat/2
	h.mu.Unlock()
	if full {
		s.accesses.wake()
	}
}

func (h *heat) takeAll() map[digest.Digest]*oci.Extents {
	h.mu.Lock()
	defer h.mu.Unlock()
	by := h.by
	h.by, h.n = nil, 0
	return by
}

// putBack keeps what could not be filed, as far as there is room.
func (h *heat) putBack(by map[digest.Digest]*oci.Extents) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[digest.Digest]*oci.Extents{}
	}
	for d, x := range by {
		if have := h.by[d]; have != nil {
			h.n -= len(*have)
			for _, r := range *have {
				x.Add(r)
			}
		}
		if h.n+len(*x) > maxHeat {
			delete(h.by, d)
			continue
		}
		h.by[d] = x
		h.n += len(*x)
	}
}

// fileHeat turns what was noted into rows.
func (s *Store) fileHeat(ctx context.Context) error {
	by := s.heat.takeAll()
	if len(by) == 0 {
		return nil
	}
	later, err := s.sortHeat(ctx, by)
	if err == nil && len(by) > 0 {
		err = s.meta.Update(ctx, func(tx Tx) error {
			for d, read := range by {
				if err := s.addHeat(tx, d, *read); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		s.metrics.failed(opAccess)
		maps.Copy(later, by)
	}
	s.heat.putBack(later)
	return err
}

// sortHeat leaves in by what is of indexed layers, and gives what is of layers
// that are about to be. The rest is dropped.
func (s *Store) sortHeat(ctx context.Context, by map[digest.Digest]*oci.Extents) (later map[digest.Digest]*oci.Extents, err error) {
	later = map[digest.Digest]*oci.Extents{}
	drop := map[digest.Digest]bool{}
	err = s.meta.View(ctx, func(tx Tx) error {
		for d := range by {
			state, err := layerState(tx, d)
			if err != nil {
				return err
			}
			drop[d] = state != LayerIndexed
			if state == LayerWanted {
				later[d] = by[d]
			}
		}
		return nil
	})
	if err != nil {
		return map[digest.Digest]*oci.Extents{}, err
	}
	maps.DeleteFunc(by, func(d digest.Digest, _ *oci.Extents) bool { return drop[d] })
	return later, nil
}

// layerState is how far d has come at any span size.
func layerState(tx Tx, d digest.Digest) (state LayerState, err error) {
	err = tx.Layers(d, func(row LayerRow) error {
		if state != LayerIndexed && row.State != LayerSkipped {
			state = row.State
		}
		return nil
	})
	return state, err
}

// addHeat adds to the row of d's spans.
func (s *Store) addHeat(tx Tx, d digest.Digest, read oci.Extents) error {
	spanSize, table, err := spansOf(tx, d)
	if errors.Is(err, ErrNotFound) {
		return nil // not indexed any more
	}
	if err != nil {
		s.log.Error("heat of a layer not filed", "digest", d, "err", err)
		return nil
	}
	row, err := tx.Heat(d, spanSize)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	row.Digest, row.SpanSize = d, spanSize
	if len(row.Spans) != table.Len() {
		row.Spans = make([]SpanHeat, table.Len())
	}
	now, seen := s.now(), -1
	for _, r := range read {
		first, last := table.Cover(r.Off, r.End)
		for i := max(first, seen+1); i <= last; i++ {
			if row.Spans[i].Reads < 1<<32-1 {
				row.Spans[i].Reads++
			}
			row.Spans[i].Last = now
			seen = i
		}
	}
	if seen < 0 {
		return nil // its head alone, which is in no span
	}
	return tx.PutHeat(row)
}

// spansOf gives the span table of an indexed layer, at the span size at which
// its ranges are answered. ErrNotFound.
func spansOf(tx Tx, d digest.Digest) (spanSize int64, table *ztoc.SpanTable, err error) {
	found := false
	err = tx.Layers(d, func(row LayerRow) error {
		if row.State == LayerIndexed && !found {
			spanSize, found = row.SpanSize, true
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("spans of %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return 0, nil, err
	}
	table, err = tableOf(tx, d, spanSize)
	return spanSize, table, err
}

// tableOf reads a layer's span table. ErrNotFound.
func tableOf(tx LayerTx, d digest.Digest, spanSize int64) (*ztoc.SpanTable, error) {
	raw, err := tx.Spans(d, spanSize)
	if err != nil {
		return nil, err
	}
	table := new(ztoc.SpanTable)
	return table, table.UnmarshalBinary(raw)
}
