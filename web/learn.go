package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// Learned is what is known of the starts of an image of one platform.
type Learned struct {
	Manifest  digest.Digest  `json:"manifest"`
	Platform  string         `json:"platform,omitempty"`
	Starts    int            `json:"starts"`          // that count
	Offered   int            `json:"offered"`         // that don't: their clients were offered what was learnt
	Ignored   int            `json:"ignored"`         // that tell nothing: of a caller who counted in the round, or of nearly all of the image
	Recent    int            `json:"recent"`          // of those that count, the last ones, which are looked at
	Index     digest.Digest  `json:"index,omitempty"` // SOCI v1 index with what was learnt, where one is offered
	Imported  bool           `json:"imported,omitempty"`
	Set       time.Time      `json:"set,omitzero"`       // when what was learnt last changed
	Confirmed time.Time      `json:"confirmed,omitzero"` // when a start last counted
	Bytes     int64          `json:"bytes"`              // compressed, of the spans
	Layers    []LearnedLayer `json:"layers"`             // in the image's order
}

// LearnedLayer is what starts need of a layer.
type LearnedLayer struct {
	Layer digest.Digest `json:"layer"`
	Of    int           `json:"of"` // spans that the layer has
	Bytes int64         `json:"bytes"`
	Spans []LearnedSpan `json:"spans"`
}

// LearnedSpan is a span, about how long after a start's first read it is read,
// and when a start that counts last did.
type LearnedSpan struct {
	Span   int       `json:"span"`
	Millis int64     `json:"millis"`
	Read   time.Time `json:"read"`
}

// LearnedOf gives what was learnt of the image that name means, one for each
// platform of which anything is known. storage.ErrNotFound where the image is
// not known.
func LearnedOf(ctx context.Context, v Viewer, name string) (list []Learned, err error) {
	err = v.View(ctx, func(tx storage.Tx) error {
		list = []Learned{}
		return eachLearned(tx, name, func(img *storage.ImageRow, row *storage.LearnRow) error {
			x, err := learnedOf(tx, img, row)
			list = append(list, x)
			return err
		})
	})
	for i := range list {
		if err == nil && list[i].Platform == "" { // no index of images names it
			list[i].Platform, err = saidPlatform(ctx, v, list[i].Manifest)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look up %.300q: %w", name, err)
	}
	return list, nil
}

// eachLearned calls fn for each image below name of whose starts anything is known.
func eachLearned(tx storage.Tx, name string, fn func(*storage.ImageRow, *storage.LearnRow) error) error {
	x, err := Resolve(tx, name)
	if err != nil {
		return err
	}
	all, err := storage.Below(tx, x.Digest)
	if err != nil {
		return err
	}
	for _, d := range all {
		row, err := tx.Learn(d)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		img, err := tx.Image(d)
		if err = ignoreNotFound(err); err == nil {
			err = fn(&img, &row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func learnedOf(tx storage.Tx, img *storage.ImageRow, row *storage.LearnRow) (Learned, error) {
	x := Learned{
		Manifest: row.Manifest, Platform: img.Platform, Starts: row.Starts, Offered: row.Offered, Ignored: row.Ignored, Recent: row.Recent.Starts,
		Imported: row.Imported, Set: row.Set, Confirmed: row.Confirmed, Layers: []LearnedLayer{},
	}
	if img.Learned != nil {
		x.Index = img.Learned.Index
	}
	for i := range img.Layers {
		l := &img.Layers[i]
		for j := range row.Learnt {
			if row.Learnt[j].Layer != l.Descriptor.Digest || row.Learnt[j].SpanSize != l.SpanSize {
				continue
			}
			one, err := learnedLayer(tx, &row.Learnt[j])
			if err != nil {
				return x, err
			}
			x.Bytes += one.Bytes
			x.Layers = append(x.Layers, one)
		}
	}
	return x, nil
}

func learnedLayer(tx storage.Tx, l *storage.LearntLayer) (LearnedLayer, error) {
	out := LearnedLayer{Layer: l.Layer}
	raw, err := tx.Spans(l.Layer, l.SpanSize)
	if err != nil {
		return out, ignoreNotFound(err)
	}
	var table ztoc.SpanTable
	if err := table.UnmarshalBinary(raw); err != nil {
		return out, fmt.Errorf("span table of %s: %w", l.Layer, err)
	}
	out.Of = table.Len()
	for _, s := range l.Spans {
		if s.Span >= table.Len() {
			continue
		}
		at := table.Span(s.Span)
		out.Bytes += at.End - at.Off
		out.Spans = append(out.Spans, LearnedSpan{s.Span, s.Millis, time.Unix(s.Read, 0).UTC()})
	}
	return out, nil
}

// ResetLearned forgets what was learnt of the image that name means, and gives
// the image manifests of which anything was. published is told of each.
// storage.ErrNotFound.
func ResetLearned(ctx context.Context, s *storage.Store, name string, published func(context.Context, digest.Digest)) (gone []digest.Digest, err error) {
	err = s.Update(ctx, func(tx storage.Tx) error {
		gone = []digest.Digest{}
		err := eachLearned(tx, name, func(_ *storage.ImageRow, row *storage.LearnRow) error {
			gone = append(gone, row.Manifest)
			return nil
		})
		for _, d := range gone {
			err = errors.Join(err, tx.DeleteLearn(d))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("forget what was learnt of %.300q: %w", name, err)
	}
	for _, d := range gone {
		if published != nil {
			published(ctx, d)
		}
	}
	return gone, nil
}

func (s *Web) learned(w http.ResponseWriter, r *http.Request) error {
	list, err := LearnedOf(r.Context(), s.opt.Store, r.URL.Query().Get("name"))
	if err != nil {
		return operatorError(err)
	}
	return sendJSON(w, list)
}

func (s *Web) resetLearned(w http.ResponseWriter, r *http.Request) error {
	var q named
	if err := receive(w, r, &q); err != nil {
		return err
	}
	gone, err := ResetLearned(r.Context(), s.opt.Store, q.Name, s.opt.Learnt)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "what was learnt is forgotten", "name", q.Name, "images", len(gone))
	return sendJSON(w, gone)
}
