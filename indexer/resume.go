package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
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

// resume looks at every image, when it begins and whenever the rules changed,
// as if its manifest came by again: a build may have been cut short, an index
// may wait to be listed, the rules may see an image differently by now.
func (x *Indexer) resume(ctx context.Context) error {
	err := x.adopt(ctx)
	for ctx.Err() == nil {
		if err == nil {
			err = x.lookAtAll(ctx)
		}
		if err != nil && ctx.Err() == nil {
			x.log.ErrorContext(ctx, "what was left undone is not known, looking again", "err", err)
			pause(ctx, resumePause)
			err = nil
			continue
		}
		select {
		case <-x.toResume:
		case <-ctx.Done():
		}
	}
	return nil
}

// resumePause is how long resume waits when the rows could not be read.
const resumePause = 30 * time.Second

func (x *Indexer) lookAtAll(ctx context.Context) error {
	var images []digest.Digest
	err := x.store.View(ctx, func(tx storage.Tx) error {
		images = nil
		return tx.Images(func(img storage.ImageRow) error {
			images = append(images, img.Manifest.Digest)
			return ctx.Err()
		})
	})
	for _, d := range images {
		if err == nil {
			err = x.tryWider(ctx, d)
		}
		if err == nil {
			err = x.note(ctx, d, layersOf)
		}
	}
	if err == nil {
		err = x.refileJobs(ctx)
	}
	if err == nil {
		err = x.refetch(ctx, images)
	}
	if err == nil {
		err = x.resumeConversions(ctx)
	}
	return err
}

// adopt notes the images that are stored and were never looked at: nothing was
// indexed when they came.
func (x *Indexer) adopt(ctx context.Context) error {
	type found struct {
		repos []oci.Repo
		row   storage.ManifestRow
	}
	var new []found
	err := x.store.View(ctx, func(tx storage.Tx) error {
		new = nil
		return tx.Manifests(func(row storage.ManifestRow) error {
			if !indexable(&row.Manifest) {
				return ctx.Err()
			}
			_, err := tx.Image(row.Digest)
			if err == nil {
				return ctx.Err()
			}
			if err = ignoreNotFound(err); err != nil {
				return err
			}
			repos, err := reposOf(tx, row.Digest)
			new = append(new, found{repos, row})
			return err
		})
	})
	for _, f := range new {
		for _, repo := range f.repos {
			if err == nil {
				err = x.Manifest(ctx, repo, f.row)
			}
		}
	}
	return err
}

// refileJobs gives jobs the priority of the rule of today, and drops those that
// no image wants any more.
func (x *Indexer) refileJobs(ctx context.Context) error {
	var drop, put []storage.JobRow
	look := func(tx storage.Tx) (err error) {
		drop, put, err = x.outdatedJobs(tx)
		return errors.Join(err, ctx.Err())
	}
	if err := x.store.View(ctx, look); err != nil || len(drop)+len(put) == 0 {
		return err
	}
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		err := look(tx)
		for _, j := range drop {
			err = errors.Join(err, tx.DeleteJob(j.Layer.Digest, j.SpanSize))
		}
		for _, j := range put {
			err = errors.Join(err, tx.PutJob(j))
		}
		return err
	})
	if err == nil {
		x.m.queued.Sub(float64(len(drop)))
	}
	return err
}

func (x *Indexer) outdatedJobs(tx storage.Tx) (drop, put []storage.JobRow, err error) {
	var jobs []storage.JobRow
	err = tx.Jobs(func(j storage.JobRow) error {
		jobs = append(jobs, j)
		return nil
	})
	for _, j := range jobs {
		if err != nil {
			break
		}
		var now storage.JobRow
		var wanted bool
		now, wanted, err = x.jobFor(tx, jobKey(&j))
		if j.Again {
			now.Priority -= behindAll
		}
		switch {
		case !wanted && !x.isClaimed(jobKey(&j)):
			drop = append(drop, j)
		case wanted && now.Priority != j.Priority:
			j.Priority = now.Priority
			put = append(put, j)
		}
	}
	return drop, put, err
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
