package web

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/storage"
)

// addTaken notes what SOCI v2 indexes of a manifest name of its starts, or would, were
// there any, so that whoever imports it makes the same ones. Nothing is not noted: the
// bundle is the same before and after the image is converted.
func (x *WarmImage) addTaken(tx storage.Tx, manifest digest.Digest) error {
	row, err := tx.Taken(manifest)
	if errors.Is(err, storage.ErrNotFound) {
		row, err = offeredStarts(tx, manifest)
	}
	if err != nil || len(row.Layers) == 0 {
		return err
	}
	out := bundle.Taken{Manifest: manifest}
	for _, l := range row.Layers {
		out.Layers = append(out.Layers, bundle.TakenLayer(l))
	}
	x.Taken = append(x.Taken, out)
	return nil
}

// offeredStarts is what of an image's starts its index names.
func offeredStarts(tx storage.Tx, manifest digest.Digest) (storage.TakenRow, error) {
	img, err := tx.Image(manifest)
	if err != nil || img.Learned == nil {
		return storage.TakenRow{}, ignoreNotFound(err)
	}
	row, err := tx.Learn(manifest)
	return storage.TakenRow{Manifest: manifest, Layers: storage.TakenOf(row.Learnt)}, ignoreNotFound(err)
}

// fileTaken has SOCI v2 indexes of imported images name what they do where the bundle
// was made, which is nothing where it says nothing, unless there were such here before.
func fileTaken(tx storage.Tx, q ImportRequest) error {
	for _, m := range q.Manifests {
		if m.Subject != "" || m.Tag != "" {
			continue // about an image
		}
		if _, err := tx.Taken(m.Digest); !errors.Is(err, storage.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		row := storage.TakenRow{Manifest: m.Digest}
		for i := range q.Taken {
			if q.Taken[i].Manifest != m.Digest {
				continue
			}
			for _, l := range q.Taken[i].Layers {
				if err := checkRuns(l.Layer, l.Runs); err != nil {
					return err
				}
				row.Layers = append(row.Layers, storage.TakenLayer(l))
			}
		}
		if err := tx.PutTaken(row); err != nil {
			return err
		}
	}
	return nil
}

// checkRuns refuses runs that are none, or are not in their order.
func checkRuns(layer digest.Digest, runs [][2]int) error {
	after := -1
	for _, r := range runs {
		if r[0] <= after || r[1] < r[0] || r[1] >= maxImportedSpans {
			return fmt.Errorf("what starts need of %s: %d to %d is no run of spans behind %d", layer, r[0], r[1], after)
		}
		after = r[1]
	}
	return nil
}
