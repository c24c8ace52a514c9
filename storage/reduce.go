package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/sociable/sociable/ztoc"
)

const (
	// largestSpan is the largest one that is ever asked for by itself; a layer
	// that has a larger one is read by the grid.
	largestSpan = 16 << 20
	// reducedTo is the most of a layer that is kept of it: one part in so many.
	// To copy more would free too little.
	reducedTo = 2
	// maxCarried bounds what of a layer is in memory while it goes.
	maxCarried = 16 << 20
)

// reduction is an indexed layer that is about to go, and the spans of it that
// were read, most read first.
type reduction struct {
	victim
	spans   []ztoc.Span
	carried []carried // those for which there is room only when it has gone
	left    int64     // of maxCarried
}

type carried struct {
	row  BlobRow
	body []byte
}

// divide tells apart the victims of which something is to be kept.
func (s *Store) divide(ctx context.Context, vs []victim) (plain []victim, layers []reduction, err error) {
	if err := s.fileHeat(ctx); err != nil {
		s.log.WarnContext(ctx, "which spans were read is not filed", "err", err)
	}
	err = s.meta.View(ctx, func(tx Tx) error {
		plain, layers = nil, nil
		for _, v := range vs {
			spans, err := s.hotSpans(tx, v)
			if err != nil {
				return err
			}
			if len(spans) == 0 {
				plain = append(plain, v)
			} else {
				layers = append(layers, reduction{victim: v, spans: spans, left: maxCarried})
			}
		}
		return nil
	})
	return plain, layers, err
}

// hotSpans gives the spans of v that were read and are not blobs already.
func (s *Store) hotSpans(tx Tx, v victim) ([]ztoc.Span, error) {
	if v.kind != KindBlob {
		return nil, nil
	}
	spanSize, table, err := spansOf(tx, v.d)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			s.log.Error("span table not readable; the layer goes as a whole", "digest", v.d, "err", err)
		}
		return nil, nil
	}
	row, err := tx.Heat(v.d, spanSize)
	if errors.Is(err, ErrNotFound) || err == nil && len(row.Spans) != table.Len() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var hot []int
	for i, h := range row.Spans {
		sp := table.Span(i)
		if sp.End-sp.Off > largestSpan {
			return nil, nil
		}
		if h.Reads == 0 {
			continue
		}
		if _, err := tx.Blob(sp.Digest); errors.Is(err, ErrNotFound) {
			hot = append(hot, i)
		} else if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(hot, func(a, b int) int {
		return cmp.Or(-cmp.Compare(row.Spans[a].Reads, row.Spans[b].Reads), -row.Spans[a].Last.Compare(row.Spans[b].Last))
	})
	var spans []ztoc.Span
	left := v.size / reducedTo
	for _, i := range hot {
		sp := table.Span(i)
		if left -= sp.End - sp.Off; left < 0 {
			break
		}
		spans = append(spans, sp)
	}
	return spans, nil
}

// evictReduced makes blobs of a layer's spans, as far as there is room for them
// before or after, and evicts the layer. freed is what that gains in all. When ctx
// ends before they are, the layer stays.
func (s *Store) evictReduced(ctx context.Context, r *reduction) (freed int64, err error) {
	defer func() { r.carried = nil }() // others go after this one
	kept, n, err := s.cutOut(ctx, r)
	if ctx.Err() != nil {
		return -kept, nil
	}
	if err != nil {
		s.log.WarnContext(ctx, "spans of an evicted layer not kept", "digest", r.d, "err", err)
	}
	freed, err = s.evictBatch(ctx, []victim{r.victim}, func() {})
	if freed == 0 || err != nil {
		return freed - kept, err
	}
	ctx = context.WithoutCancel(ctx) // they are nowhere else by now
	for _, c := range r.carried {
		ok, err := s.keepCut(ctx, bytes.NewReader(c.body), c.row)
		if err != nil {
			s.log.WarnContext(ctx, "span of an evicted layer not kept", "digest", r.d, "err", err)
		} else if ok {
			kept, n = kept+c.row.Size, n+1
		}
	}
	if n > 0 {
		s.metrics.reduced.Inc()
		s.log.DebugContext(ctx, "layer reduced to what was read of it", "digest", r.d, "spans", n, "bytes", kept)
	}
	return freed - kept, nil
}

// cutOut copies spans out of a layer's file, into blobs or into memory. It holds
// no lock of the layer's, since it takes those of the spans: that the layer is
// open keeps it here.
func (s *Store) cutOut(ctx context.Context, r *reduction) (kept int64, n int, err error) {
	o := s.digests.opened(r.d)
	defer s.closed(o)
	b, row, err := s.openRow(ctx, r.d)
	if err != nil {
		return 0, 0, err
	}
	defer b.Close()
	for _, sp := range r.spans {
		span := BlobRow{
			Digest: sp.Digest, Size: sp.End - sp.Off, Kind: KindSpan, Of: r.d,
			Created: row.Created, Accessed: s.now().UTC().Round(0),
		}
		body := io.NewSectionReader(b, sp.Off, span.Size)
		ok, err := s.keepCut(ctx, body, span)
		switch {
		case err != nil:
			return kept, n, err
		case ok:
			kept, n = kept+span.Size, n+1
		case span.Size <= r.left:
			c := carried{span, make([]byte, span.Size)}
			if _, err := io.ReadFull(body, c.body); err != nil {
				return kept, n, err
			}
			r.carried = append(r.carried, c)
			r.left -= span.Size
		}
	}
	return kept, n, nil
}

// keepCut stores one span, if there is room for it: nothing is evicted for it,
// since that is what this is part of. The digest is checked as that of any blob.
// One that somebody uses or brings is left to them: whoever evicts may have locked
// it himself, or be waited for.
func (s *Store) keepCut(ctx context.Context, body io.Reader, row BlobRow) (bool, error) {
	if !s.digests.idle(row.Digest) {
		return false, nil
	}
	if ok, err := s.tryTake(ctx, row.Size); !ok || err != nil {
		return false, err
	}
	room := allotment{s: s, size: row.Size}
	w, err := s.blobs.Create(ctx)
	if err != nil {
		room.release()
		return false, err
	}
	out := &Writer{s: s, ctx: ctx, w: w, room: room, once: true}
	_, err = io.Copy(out, body)
	if err == nil {
		err = out.Commit(ctx, row, Cached)
	}
	if errors.Is(err, ErrBusy) {
		return false, out.Close()
	}
	return err == nil, errors.Join(err, out.Close())
}
