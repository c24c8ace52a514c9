package learn

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

const (
	// maxLayers bounds the layers that are remembered, and maxTables their span
	// tables: a 10 GB layer's takes about 200 KB.
	maxLayers, maxTables = 4096, 256
	// recheck is how often it is looked whether a layer came to be of another
	// image.
	recheck = 5 * time.Second
)

// layers remembers what the rows say of layers and their span tables.
type layers struct {
	store  Store
	tables *lru.Cache[digest.Digest, *ztoc.SpanTable] // by zTOC
	known  *lru.Cache[digest.Digest, *known]
}

// known is a layer, as far as it matters here.
type known struct {
	at     time.Time // when it was looked up
	zTOCs  map[int64]digest.Digest
	images []digest.Digest // that have it indexed, at most two: with more it tells nothing
}

func newLayers(s Store) *layers {
	tables, _ := lru.New[digest.Digest, *ztoc.SpanTable](maxTables) // only a size below one is an error
	seen, _ := lru.New[digest.Digest, *known](maxLayers)
	return &layers{s, tables, seen}
}

// of looks a layer up. One that is not indexed has no zTOCs.
func (l *layers) of(ctx context.Context, d digest.Digest, now time.Time) (*known, error) {
	if x, ok := l.known.Get(d); ok && now.Sub(x.at) < recheck {
		return x, nil
	}
	var x *known
	err := l.store.View(ctx, func(tx storage.Tx) error {
		x = &known{at: now, zTOCs: map[int64]digest.Digest{}}
		err := tx.Layers(d, func(row storage.LayerRow) error {
			if row.State == storage.LayerIndexed {
				x.zTOCs[row.SpanSize] = row.ZTOC
			}
			return nil
		})
		if err != nil || len(x.zTOCs) == 0 {
			return err
		}
		err = tx.ImagesOf(d, func(img storage.ImageRow) error {
			if len(img.Repos) == 0 {
				return nil // it was deleted
			}
			if x.images = append(x.images, img.Manifest.Digest); len(x.images) > 1 {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	l.known.Add(d, x)
	return x, nil
}

var errEnough = errors.New("that is enough")

// table gives the span table of a layer at a span size; nil where it has none.
func (l *layers) table(tx storage.LayerTx, d digest.Digest, spanSize int64) (*ztoc.SpanTable, error) {
	row, err := tx.Layer(d, spanSize)
	if errors.Is(err, storage.ErrNotFound) || err == nil && row.State != storage.LayerIndexed {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if t, ok := l.tables.Get(row.ZTOC); ok {
		return t, nil
	}
	raw, err := tx.Spans(d, spanSize)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t := new(ztoc.SpanTable)
	if err := t.UnmarshalBinary(raw); err != nil {
		return nil, err
	}
	l.tables.Add(row.ZTOC, t)
	return t, nil
}

// indexedLayers are those of an image that have a zTOC, or are to get one.
func indexedLayers(img *storage.ImageRow) (out []layerAt) {
	for i := range img.Layers {
		if l := &img.Layers[i]; l.SpanSize > 0 {
			out = append(out, layerAt{l.Descriptor.Digest, l.SpanSize})
		}
	}
	return out
}

// errNotNow says that a layer of the image has no zTOC now, and may have one again.
var errNotNow = errors.New("the layer is not indexed now")

// sizes tells the compressed bytes of a span; ok is false for one that is none of
// the image's any more. errNotNow where that can't be said now.
type sizes func(spanKey) (n int64, ok bool, err error)

// spanSizes is about the spans of img.
func (l *layers) spanSizes(tx storage.Tx, img *storage.ImageRow) sizes {
	has := map[layerAt]bool{}
	for _, x := range indexedLayers(img) {
		has[x] = true
	}
	return func(k spanKey) (int64, bool, error) {
		if !has[layerAt{k.layer, k.spanSize}] {
			return 0, false, nil
		}
		t, err := l.table(tx, k.layer, k.spanSize)
		switch {
		case err != nil:
			return 0, false, fmt.Errorf("span table of %s: %w", k.layer, err)
		case t == nil:
			return 0, false, l.absent(tx, k)
		case k.span >= t.Len():
			return 0, false, nil
		}
		s := t.Span(k.span)
		return s.End - s.Off, true, nil
	}
}

// absent is nil where a layer that has no zTOC is not to get one, else errNotNow.
func (l *layers) absent(tx storage.LayerTx, k spanKey) error {
	row, err := tx.Layer(k.layer, k.spanSize)
	switch {
	case err == nil && row.State == storage.LayerSkipped:
		return nil
	case ignoreAbsent(err) != nil:
		return fmt.Errorf("look up %s: %w", k.layer, err)
	}
	return fmt.Errorf("%s: %w", k.layer, errNotNow)
}

// total is the compressed bytes of the layers of an image that are indexed.
func (l *layers) total(tx storage.Tx, img *storage.ImageRow) (n int64, err error) {
	for _, x := range indexedLayers(img) {
		t, err := l.table(tx, x.layer, x.spanSize)
		if err != nil {
			return 0, fmt.Errorf("span table of %s: %w", x.layer, err)
		}
		if t != nil && t.Len() > 0 {
			n += t.Span(t.Len()-1).End - t.Span(0).Off
		}
	}
	return n, nil
}

// ranges are the bytes of what was learnt, those that are needed first first.
// What has no zTOC now is left out.
func (l *layers) ranges(tx storage.Tx, img *storage.ImageRow, row *storage.LearnRow) (out []storage.LayerRange, err error) {
	size := l.spanSizes(tx, img)
	for _, k := range byNeed(row.Learnt) {
		_, ok, err := size(k)
		if err != nil && !errors.Is(err, errNotNow) {
			return nil, err
		}
		if !ok {
			continue
		}
		t, err := l.table(tx, k.layer, k.spanSize)
		if err != nil {
			return nil, err
		}
		s := t.Span(k.span)
		out = append(out, storage.LayerRange{Layer: k.layer, Range: oci.Range{Off: s.Off, End: s.End}})
	}
	return out, nil
}
