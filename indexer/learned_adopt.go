package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// madeBefore is a SOCI v2 index of which it is not kept what it took.
type madeBefore struct {
	index, of digest.Digest
	created   time.Time
}

// adoptTaken files what conversions took that were made before that was kept: of
// several of one image the first one's.
func (x *Indexer) adoptTaken(ctx context.Context) error {
	var before []madeBefore
	err := x.store.View(ctx, func(tx storage.Tx) error {
		before = nil
		return tx.AllConversions(func(row storage.ConversionRow) error {
			for _, m := range row.Made {
				if lacks, err := lacksTaken(tx, m); err != nil {
					return err
				} else if lacks {
					before = append(before, madeBefore{m.Digest, m.Of, row.Created})
				}
			}
			return ctx.Err()
		})
	})
	slices.SortStableFunc(before, func(a, b madeBefore) int { return a.created.Compare(b.created) })
	for _, m := range before {
		if err == nil {
			err = x.adoptOne(ctx, m)
		}
	}
	if err != nil {
		return fmt.Errorf("keep what converted images took of starts: %w", err)
	}
	return nil
}

// lacksTaken reports a SOCI v2 index of which no row tells what it took.
func lacksTaken(tx storage.Tx, m storage.MadeBlob) (bool, error) {
	if _, err := tx.Taken(m.Of); !errors.Is(err, storage.ErrNotFound) {
		return false, err
	}
	row, err := tx.Manifest(m.Digest)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	return row.Manifest.Config != nil && row.Manifest.Config.MediaType == oci.MediaTypeSOCIIndexV2, nil
}

func (x *Indexer) adoptOne(ctx context.Context, m madeBefore) error {
	var row storage.ManifestRow
	err := x.store.View(ctx, func(tx storage.Tx) (err error) {
		row, err = tx.Manifest(m.index)
		return err
	})
	if err != nil {
		return ignoreNotFound(err)
	}
	taken := storage.TakenRow{Manifest: m.of}
	spanSizes := map[digest.Digest]int64{}
	zTOCsIn(&row.Manifest, func(k key, _ digest.Digest) { spanSizes[k.layer] = k.spanSize })
	for i := range row.Manifest.Layers {
		l := &row.Manifest.Layers[i]
		if l.MediaType != oci.MediaTypeSOCIPrefetch {
			continue
		}
		runs, err := x.readPrefetch(ctx, l.Digest)
		if err != nil {
			return err
		}
		layer := digest.Digest(l.Annotations[annotationLayerDigest])
		if size := spanSizes[layer]; size > 0 && len(runs) > 0 {
			taken.Layers = append(taken.Layers, storage.TakenLayer{Layer: layer, SpanSize: size, Runs: runs})
		}
	}
	return x.store.Update(ctx, func(tx storage.Tx) error {
		if _, err := tx.Taken(m.of); !errors.Is(err, storage.ErrNotFound) {
			return err // an earlier one's
		}
		if _, err := tx.Manifest(m.of); err != nil {
			return ignoreNotFound(err) // purged
		}
		return tx.PutTaken(taken)
	})
}

// readPrefetch reads an artifact that was made here. One that is lost, or damaged,
// counts as none.
func (x *Indexer) readPrefetch(ctx context.Context, d digest.Digest) ([][2]int, error) {
	body, err := x.readBlob(ctx, d)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	var artifact struct {
		Spans []PrefetchSpans `json:"prefetch_spans"`
	}
	if err := json.Unmarshal(body, &artifact); err != nil {
		x.log.WarnContext(ctx, "prefetch artifact is damaged", "digest", d, "err", err)
		return nil, nil
	}
	var runs [][2]int
	for _, s := range artifact.Spans {
		runs = append(runs, [2]int{s.First, s.Last})
	}
	return runs, nil
}
