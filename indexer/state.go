package indexer

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// State tells how far the index of an image manifest is. What is no image, or
// was never seen, is done, and so is everything while indexing is switched off.
func (x *Indexer) State(ctx context.Context, manifest digest.Digest) (st oci.IndexState, err error) {
	if x.opt.Disabled {
		return oci.IndexState{Done: true}, nil
	}
	err = x.store.View(ctx, func(tx storage.Tx) error {
		st = oci.IndexState{}
		p, err := x.plan(tx, manifest)
		if err != nil {
			return err
		}
		for i := range p.img.Layers {
			if err := addState(tx, &st, &p.img.Layers[i]); err != nil {
				return err
			}
		}
		st.Done = st.Through == st.Layers && !p.due
		return nil
	})
	if err != nil {
		return st, fmt.Errorf("look how far the index of %s is: %w", manifest, err)
	}
	return st, nil
}

func addState(tx storage.Tx, st *oci.IndexState, l *storage.ImageLayer) error {
	if l.SpanSize == 0 {
		return nil
	}
	st.Layers++
	row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
	if err == nil && row.State != storage.LayerWanted {
		st.Through++
		return nil
	}
	if ignoreNotFound(err) != nil {
		return err
	}
	job, err := tx.Job(l.Descriptor.Digest, l.SpanSize)
	if err == nil && job.Attempts > st.Tries {
		st.Tries, st.Trouble = job.Attempts, job.LastError
	}
	return ignoreNotFound(err)
}
