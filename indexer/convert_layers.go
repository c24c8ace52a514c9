package indexer

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// fetchLayers queues the layers that are wanted of images that a rule names by
// platform, to be fetched where nobody has pulled them.
func (x *Indexer) fetchLayers(ctx context.Context, manifests []digest.Digest) error {
	n := 0
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		n = 0
		for _, d := range manifests {
			img, err := tx.Image(d)
			if errors.Is(err, storage.ErrNotFound) {
				continue // no image after all, or not to be had
			}
			if err != nil {
				return err
			}
			more, err := x.queueFetches(tx, &img)
			n += more
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && n > 0 {
		x.m.queued.Add(float64(n))
		wake(x.toLease)
	}
	return err
}

// queueFetches queues the wanted layers of an image that have no job, and says
// of those that have one that they may be fetched. It gives how many are new.
func (x *Indexer) queueFetches(tx storage.Tx, img *storage.ImageRow) (n int, err error) {
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.SpanSize == 0 {
			continue
		}
		row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
		if err != nil || row.State != storage.LayerWanted {
			if err = ignoreNotFound(err); err != nil {
				return n, err
			}
			continue
		}
		job, err := tx.Job(l.Descriptor.Digest, l.SpanSize)
		if errors.Is(err, storage.ErrNotFound) {
			var found bool
			if job, found, err = x.jobFor(tx, key{l.Descriptor.Digest, l.SpanSize}); err == nil && found {
				n++
			}
		}
		if err != nil {
			return n, err
		}
		if job.Layer.Digest == "" {
			continue
		}
		if job.Again {
			job.Again, job.Priority = false, job.Priority+behindAll
		}
		job.Fetch, job.Failed = true, false
		if err := tx.PutJob(job); err != nil {
			return n, err
		}
	}
	return n, nil
}
