package indexer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// platformPrefetch is what is known of a platform's starts when it is first
// converted. From then on it is part of the conversion, which never changes for
// that reason.
type platformPrefetch struct {
	row   storage.ConvertedPrefetch
	blobs []prefetchBlob // those that are new
}

// prefetchFor gives the prefetch artifacts of a platform's SOCI v2 index: those
// that its conversion has, or, where it is new or its zTOCs are, what is known.
func (x *Indexer) prefetchFor(tx storage.Tx, p *conversionPlan, a asked, layers []IndexLayer) (out platformPrefetch, err error) {
	plain, err := EncodeIndexV2(layers, nil)
	if err != nil {
		return out, err
	}
	out.row = storage.ConvertedPrefetch{Manifest: a.manifest, Plain: digest.FromBytes(plain)}
	if p.old != nil && slices.Contains(p.old.Platforms, platformName(&a.platform)) {
		i := slices.IndexFunc(p.old.Prefetch, func(c storage.ConvertedPrefetch) bool { return c.Manifest == a.manifest })
		if i < 0 { // it had none, or is from before there were any
			return out, nil
		}
		if p.old.Prefetch[i].Plain == out.row.Plain {
			out.row = p.old.Prefetch[i]
			return out, nil
		}
	}
	if !x.opt.Learned {
		return out, nil
	}
	out.blobs, err = learntOf(tx, a.manifest, layers)
	out.row.Artifacts = descriptors(out.blobs)
	return out, err
}

// putConvertedPrefetch stores the artifacts that a conversion is to name.
func (x *Indexer) putConvertedPrefetch(ctx context.Context, p *conversionPlan, now time.Time) error {
	for i := range p.prefetch {
		if err := x.putPrefetch(ctx, p.prefetch[i].blobs, p.prefetch[i].row.Manifest, now); err != nil {
			return err
		}
	}
	return nil
}

// convertedPrefetch is what of it stays in the conversion's row.
func (p *conversionPlan) convertedPrefetch() (out []storage.ConvertedPrefetch) {
	for i := range p.prefetch {
		if len(p.prefetch[i].row.Artifacts) > 0 {
			out = append(out, p.prefetch[i].row)
		}
	}
	return out
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
