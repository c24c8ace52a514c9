package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// WarmSpans is a layer that can be exported by the spans that clients have read.
type WarmSpans struct {
	bundle.LazyLayer
	Front bundle.Spans `json:"front"`     // of the file of spans, which /api/v1/spans gives
	Bytes int64        `json:"file_size"` // of that file
}

// addSpans finds the layers of x that its SOCI indexes are about, and which spans
// of each were read.
func (s *Web) addSpans(ctx context.Context, x *WarmImage) error {
	named := map[digest.Digest]bool{}
	for _, b := range x.IndexBlobs {
		named[b.Digest] = true
	}
	x.Spans = nil
	for _, b := range x.Pulled.Blobs {
		row, table, err := s.indexedLayer(ctx, b.Digest, func(l storage.LayerRow) bool { return named[l.ZTOC] })
		if errors.Is(err, storage.ErrNotFound) {
			continue // it goes as a whole
		}
		if err != nil {
			return err
		}
		read, err := s.opt.Store.ReadSpans(ctx, row.Digest, row.SpanSize)
		if err != nil {
			return err
		}
		w := WarmSpans{Front: bundle.Spans{Layer: row.Digest, Size: row.Size, ZTOC: row.ZTOC, Head: row.Head, Runs: bundle.RunsOf(read)}}
		w.LazyLayer = bundle.LazyLayer{Layer: row.Digest, Size: row.Size, ZTOC: row.ZTOC, Have: len(read), Of: table.Len()}
		sum := measure{digester: digest.SHA256.Digester()}
		if err := s.writeSpans(ctx, &sum, &w.Front, table); err != nil {
			return err
		}
		w.Spans, w.Bytes = sum.digester.Digest(), sum.n
		x.Spans = append(x.Spans, w)
	}
	return nil
}

// measure finds the digest and size of what is written to it.
type measure struct {
	digester digest.Digester
	n        int64
}

func (m *measure) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	return m.digester.Hash().Write(p)
}

// indexedLayer gives the first row of an indexed layer that want takes, and its
// span table. storage.ErrNotFound.
func (s *Web) indexedLayer(ctx context.Context, d digest.Digest, want func(storage.LayerRow) bool) (row storage.LayerRow, table ztoc.SpanTable, err error) {
	var raw []byte
	err = s.opt.Store.View(ctx, func(tx storage.Tx) error {
		found := false
		err := tx.Layers(d, func(l storage.LayerRow) error {
			if !found && l.State == storage.LayerIndexed && want(l) {
				row, found = l, true
			}
			return nil
		})
		if err == nil && !found {
			err = fmt.Errorf("zTOC of %s: %w", d, storage.ErrNotFound)
		}
		if err != nil {
			return err
		}
		raw, err = tx.Spans(d, row.SpanSize)
		return err
	})
	if err == nil {
		err = table.UnmarshalBinary(raw)
	}
	return row, table, err
}

func (s *Web) writeSpans(ctx context.Context, w io.Writer, front *bundle.Spans, table ztoc.SpanTable) error {
	b, err := s.opt.Store.Open(ctx, front.Layer)
	if err != nil {
		return fmt.Errorf("read spans of %s: %w", front.Layer, err)
	}
	defer b.Close()
	return bundle.WriteSpans(w, front, table, b)
}

// sendSpans gives the file of spans of a front that warm gave. Which spans were
// read may be other ones by now.
func (s *Web) sendSpans(w http.ResponseWriter, r *http.Request) error {
	var front bundle.Spans
	if err := receiveUpTo(maxImport, w, r, &front); err != nil {
		return err
	}
	_, table, err := s.indexedLayer(r.Context(), front.Layer, func(l storage.LayerRow) bool { return l.ZTOC == front.ZTOC })
	if err == nil {
		_, err = front.Ranges(table)
	}
	if err == nil {
		_, err = s.opt.Store.Stat(r.Context(), front.Layer)
	}
	if err != nil {
		return operatorError(err)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.writeSpans(r.Context(), w, &front, table); err != nil {
		if r.Context().Err() == nil { // who hangs up knows
			s.log.WarnContext(r.Context(), "spans not sent to their end", "layer", front.Layer, "err", err)
		}
		panic(http.ErrAbortHandler) // a short answer is not to look like a whole one
	}
	return nil
}
