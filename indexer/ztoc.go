package indexer

import (
	"errors"
	"fmt"

	"github.com/sociable/sociable/ztoc"
)

// zTOCBuilder starts a build by package ztoc. layerSize is what is said of the
// layer, -1 where it is being pushed, and nothing is; what it is decides, at the end.
func (x *Indexer) zTOCBuilder(spanSize int64, c compression, layerSize int64) (builder, error) {
	o := x.limits.Options(layerSize)
	o.Compression, o.SpillDir, o.DiffID = c.ztoc(), x.opt.SpillDir, true
	if layerSize < 0 && c == compressionGzip {
		o.DiffID = false // it costs a quarter of a build that somebody waits for, and the image's config tells it
	}
	o.SerialHash = true // a layer arrives more slowly than it is hashed, and many are built at once
	b, err := ztoc.NewBuilder(spanSize, o)
	if err != nil {
		return nil, verdict(err)
	}
	return zTOCBuild{x, b}, nil
}

type zTOCBuild struct {
	x *Indexer
	b *ztoc.Builder
}

func (z zTOCBuild) Write(p []byte) (int, error) {
	n, err := z.b.Write(p)
	return n, verdict(err)
}

func (z zTOCBuild) abort() { z.b.Abort() }

func (z zTOCBuild) finish() (*built, error) {
	r, err := z.b.Finish()
	if err != nil {
		return nil, verdict(err)
	}
	if most := z.x.limits.zTOC(r.LayerSize); r.Size > most {
		err := fmt.Errorf("ztoc of %d bytes, %d at most: %w", r.Size, most, ztoc.ErrTooLarge)
		return nil, errors.Join(&refusal{err}, r.Close())
	}
	where, err := r.Table()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	table, err := where.MarshalBinary()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("marshal span table: %w", err), r.Close())
	}
	out := &built{
		digest: r.Digest, size: r.Size, layer: r.LayerDigest, layerSize: r.LayerSize, diffID: r.DiffID,
		spans: r.Spans, firstSpan: where.HeadEnd(), table: table, body: r,
	}
	if err := r.CheckClient(); err != nil {
		out.rejected = err.Error()
	}
	return out, nil
}

// verdict marks an error that is one about the layer.
func verdict(err error) error {
	var refused *ztoc.Error
	if errors.As(err, &refused) {
		return &refusal{err}
	}
	return err
}
