package indexer

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// platformPrefetch is what a platform's SOCI v2 index names of its starts: what was
// known when the first such index of it was made, whatever became of that since.
type platformPrefetch struct {
	taken storage.TakenRow
	first bool // it is not filed yet
	blobs []prefetchBlob
}

// prefetchFor gives the prefetch artifacts of a platform's SOCI v2 index.
func (x *Indexer) prefetchFor(tx storage.Tx, manifest digest.Digest, layers []IndexLayer) (out platformPrefetch, err error) {
	out.taken, err = tx.Taken(manifest)
	if errors.Is(err, storage.ErrNotFound) {
		out.first = true
		out.taken, err = x.takes(tx, manifest)
	}
	if err == nil {
		out.blobs, err = artifactsOf(tx, out.taken.Layers, layers)
	}
	return out, err
}

// takes is what a SOCI v2 index would take, were it made now.
func (x *Indexer) takes(tx storage.Tx, manifest digest.Digest) (storage.TakenRow, error) {
	out := storage.TakenRow{Manifest: manifest}
	if !x.opt.Learned {
		return out, nil
	}
	row, err := tx.Learn(manifest)
	out.Layers = storage.TakenOf(row.Learnt)
	return out, ignoreNotFound(err)
}

// putConvertedPrefetch stores the artifacts that a conversion is to name.
func (x *Indexer) putConvertedPrefetch(ctx context.Context, p *conversionPlan, now time.Time) error {
	for i := range p.prefetch {
		if err := x.putPrefetch(ctx, p.prefetch[i].blobs, p.prefetch[i].taken.Manifest, now); err != nil {
			return err
		}
	}
	return nil
}

// convertedPrefetch is what of it stands in the conversion's row.
func (p *conversionPlan) convertedPrefetch() (out []storage.ConvertedPrefetch) {
	for i := range p.prefetch {
		if x := &p.prefetch[i]; len(x.blobs) > 0 {
			out = append(out, storage.ConvertedPrefetch{Manifest: x.taken.Manifest, Artifacts: descriptors(x.blobs)})
		}
	}
	return out
}

// fileTaken keeps for good what a conversion takes that is the first of a platform.
func (p *conversionPlan) fileTaken(tx storage.Tx) error {
	for i := range p.prefetch {
		if x := &p.prefetch[i]; x.first {
			if err := tx.PutTaken(x.taken); err != nil {
				return err
			}
		}
	}
	return nil
}

// sharePrefetch gives repo the right to the artifacts of a conversion, all of
// which are here.
func sharePrefetch(tx storage.Tx, repo oci.Repo, row *storage.ConversionRow) error {
	for i := range row.Prefetch {
		of := row.Prefetch[i].Manifest
		for _, d := range row.Prefetch[i].Artifacts {
			if _, err := tx.Blob(d.Digest); errors.Is(err, storage.ErrNotFound) {
				return errChanged // collected before it was named
			} else if err != nil {
				return err
			}
			if err := shareMade(tx, repo, storage.MadeBlob{Digest: d.Digest, Of: of}); err != nil {
				return err
			}
		}
	}
	return nil
}
