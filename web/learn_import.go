package web

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// ImportedStarts is what a bundle says of how an image starts.
type ImportedStarts struct {
	Manifest digest.Digest  `json:"manifest"` // of the image
	Layers   []ImportedRuns `json:"layers"`
}

// ImportedRuns are runs of spans, first and last, that starts need of a layer.
type ImportedRuns struct {
	Layer    digest.Digest `json:"layer"`
	SpanSize int64         `json:"span_size"`
	Runs     [][2]int      `json:"runs"`
}

// maxImportedSpans bounds the spans of a layer that are learnt from a bundle. A
// layer of 100 GB has 25,000.
const maxImportedSpans = 1 << 16

// row is what is filed; spans that the layers have not are left out where they
// are used.
func (x *ImportedStarts) row(now time.Time) (row storage.LearnRow, err error) {
	now = now.UTC().Round(0)
	row = storage.LearnRow{Manifest: x.Manifest, Set: now, Looked: now, Confirmed: now, Imported: true}
	for _, l := range x.Layers {
		out := storage.LearntLayer{Layer: l.Layer, SpanSize: l.SpanSize}
		for _, r := range l.Runs {
			if r[0] < 0 || r[1] < r[0] || r[1] >= maxImportedSpans || len(out.Spans) > maxImportedSpans {
				return row, fmt.Errorf("prefetch artifact of %s: %d to %d is no run of spans", l.Layer, r[0], r[1])
			}
			for i := r[0]; i <= r[1]; i++ {
				out.Spans = append(out.Spans, storage.LearntSpan{Span: i, Read: now.Unix()})
			}
		}
		if len(out.Spans) > 0 {
			row.Learnt = append(row.Learnt, out)
		}
	}
	return row, nil
}

// fileStarts takes over what a bundle says of how its images start, where nothing
// is known of that here, and gives these.
func (s *Web) fileStarts(ctx context.Context, q ImportRequest) (manifests []digest.Digest, err error) {
	for i := range q.Starts {
		row, err := q.Starts[i].row(time.Now())
		if err == nil {
			err = s.opt.Store.Update(ctx, func(tx storage.Tx) error {
				old, err := tx.Learn(row.Manifest)
				if err = ignoreNotFound(err); err != nil || len(old.Learnt) > 0 || len(row.Learnt) == 0 {
					return err
				}
				if _, err := tx.Manifest(row.Manifest); err != nil {
					return ignoreNotFound(err) // it is not of this image
				}
				row.Starts, row.Offered, row.Ignored, row.Counted, row.Recent = old.Starts, old.Offered, old.Ignored, old.Counted, old.Recent
				return tx.PutLearn(row)
			})
		}
		if err != nil {
			return nil, fmt.Errorf("take over how %s starts: %w", q.Starts[i].Manifest, err)
		}
		manifests = append(manifests, row.Manifest)
	}
	return manifests, nil
}

// offered is the SOCI index that goes into a bundle in the place of plain: the one
// with what was learnt, where there is one.
func offered(tx storage.Tx, subject, plain digest.Digest) (storage.ManifestRow, error) {
	img, err := tx.Image(subject)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return storage.ManifestRow{}, err
	}
	if err == nil && img.Learned != nil && img.Index == plain {
		return tx.Manifest(img.Learned.Index)
	}
	return tx.Manifest(plain)
}
