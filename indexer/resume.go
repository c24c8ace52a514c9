package indexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
)

// countJobs sets the count of jobs, before any are added or done.
func (x *Indexer) countJobs(ctx context.Context) error {
	var n int
	err := x.store.View(ctx, func(tx storage.Tx) error {
		n = 0
		return tx.Jobs(func(storage.JobRow) error { n++; return nil })
	})
	if err != nil {
		return fmt.Errorf("count jobs: %w", err)
	}
	x.m.queued.Set(float64(n))
	return nil
}

// resume looks at every image once, as if its manifest came by again: the
// rules may have changed, a build may have been cut short, an index may wait
// to be listed.
func (x *Indexer) resume(ctx context.Context) error {
	var images []digest.Digest
	err := x.store.View(ctx, func(tx storage.Tx) error {
		images = nil
		return tx.Images(func(img storage.ImageRow) error {
			images = append(images, img.Manifest.Digest)
			return ctx.Err()
		})
	})
	for _, d := range images {
		if err != nil || ctx.Err() != nil {
			break
		}
		err = x.note(ctx, d, layersOf)
	}
	if err == nil {
		err = x.resumeConversions(ctx)
	}
	if err != nil && ctx.Err() == nil {
		x.log.ErrorContext(ctx, "what was left undone is not known", "err", err)
	}
	return nil
}

func layersOf(img *storage.ImageRow) []v1.Descriptor {
	out := make([]v1.Descriptor, 0, len(img.Layers))
	for i := range img.Layers {
		out = append(out, img.Layers[i].Descriptor)
	}
	return out
}

// resumeConversions files what is due about images that were converted.
func (x *Indexer) resumeConversions(ctx context.Context) error {
	if x.opt.Fetch == nil {
		return nil
	}
	var due []storage.TaskRow
	err := x.store.View(ctx, func(tx storage.Tx) error {
		due = due[:0]
		return tx.AllConversions(func(row storage.ConversionRow) error {
			p, err := x.planConversion(tx, row.Repo, row.Source.Digest)
			if err == nil && p.due {
				due = append(due, x.convertTask(row.Repo, row.Source.Digest, p.rule))
			}
			return errors.Join(err, ctx.Err())
		})
	})
	if err != nil || len(due) == 0 {
		return err
	}
	return x.putTasks(ctx, due)
}
