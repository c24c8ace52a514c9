package web

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// addTaken notes what SOCI v2 indexes of a manifest name of its starts, so that
// whoever imports it makes the same ones.
func (x *WarmImage) addTaken(tx storage.Tx, manifest digest.Digest) error {
	row, err := tx.Taken(manifest)
	if err != nil {
		return ignoreNotFound(err) // it was never converted
	}
	out := bundle.Taken{Manifest: manifest}
	for _, l := range row.Layers {
		out.Layers = append(out.Layers, bundle.TakenLayer(l))
	}
	x.Taken = append(x.Taken, out)
	return nil
}

// fileTaken has SOCI v2 indexes of imported images name what they did where the
// bundle was made, unless there were such here before.
func fileTaken(tx storage.Tx, q ImportRequest) error {
	for i := range q.Taken {
		t := &q.Taken[i]
		if !slices.ContainsFunc(q.Manifests, func(m oci.PulledManifest) bool { return m.Digest == t.Manifest }) {
			return fmt.Errorf("the bundle has what starts of %s take, and not that: %w", t.Manifest, errIncomplete)
		}
		if _, err := tx.Taken(t.Manifest); !errors.Is(err, storage.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		row := storage.TakenRow{Manifest: t.Manifest}
		for _, l := range t.Layers {
			if err := checkRuns(l.Layer, l.Runs); err != nil {
				return err
			}
			row.Layers = append(row.Layers, storage.TakenLayer(l))
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
