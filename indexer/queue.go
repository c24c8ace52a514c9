package indexer

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// A job that went wrong waits backoffMin, then twice as long each time.
const (
	backoffMin = 5 * time.Second
	backoffMax = time.Hour
)

func backoff(attempts int) time.Duration {
	d := backoffMin
	for range attempts - 1 {
		d = min(2*d, backoffMax)
	}
	return d
}

// Whole says that blob d is whole in the store. If d is a layer that is wanted
// and no tap has it, it goes to the durable queue. It never blocks.
func (x *Indexer) Whole(d digest.Digest) {
	if x.opt.Disabled {
		return
	}
	x.mu.Lock()
	x.whole[d] = struct{}{}
	x.mu.Unlock()
	wake(x.toDo)
}

// Passed says that all of blob d went by, for which the store has no room, and that
// repo's upstream gives it to us as well. If d is a layer that is wanted and nobody
// indexes it, it is fetched once more, for its index alone. It never blocks.
func (x *Indexer) Passed(repo oci.Repo, d digest.Digest) {
	if x.opt.Disabled || x.opt.Fetch == nil {
		return
	}
	x.mu.Lock()
	x.passed[d] = repo
	x.mu.Unlock()
	wake(x.toDo)
}

// enqueue files the jobs that are due for blobs that are whole, or have passed. Most
// are no wanted layers: so it looks before it writes.
func (x *Indexer) enqueue(ctx context.Context, whole []digest.Digest, passed map[digest.Digest]oci.Repo) {
	for d := range passed {
		whole = append(whole, d)
	}
	due, err := x.whichAreDue(ctx, whole, passed)
	if err == nil && len(due) > 0 {
		err = x.putJobs(ctx, due, passed)
	}
	if err != nil && ctx.Err() == nil {
		x.log.WarnContext(ctx, "jobs not queued, trying again", "layers", len(whole), "err", err)
		pause(ctx, time.Second)
		for _, d := range whole {
			if repo, ok := passed[d]; ok {
				x.Passed(repo, d)
			} else {
				x.Whole(d)
			}
		}
	}
}

// whichAreDue gives those of ds that lack a job and are whole in the store, or have
// passed. A blob that comes after this look is announced by its own call of Whole.
func (x *Indexer) whichAreDue(ctx context.Context, ds []digest.Digest, passed map[digest.Digest]oci.Repo) ([]digest.Digest, error) {
	var lack []digest.Digest
	err := x.store.View(ctx, func(tx storage.Tx) error {
		for _, d := range ds {
			jobs, err := x.missingJobs(tx, d, passed)
			if err != nil {
				return err
			}
			if len(jobs) > 0 {
				lack = append(lack, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	due := lack[:0]
	for _, d := range lack {
		if _, ok := passed[d]; ok {
			due = append(due, d)
			continue
		}
		_, err := x.store.Stat(ctx, d)
		switch {
		case err == nil:
			due = append(due, d)
		case !errors.Is(err, storage.ErrNotFound):
			return nil, err
		}
	}
	return due, nil
}

func (x *Indexer) putJobs(ctx context.Context, ds []digest.Digest, passed map[digest.Digest]oci.Repo) error {
	var n, put int
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		n, put = 0, 0
		for _, d := range ds {
			jobs, err := x.missingJobs(tx, d, passed)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				if repo, ok := passed[d]; ok {
					j.Layer.Repo, j.Fetch = repo, true
				}
				if _, err := tx.Job(d, j.SpanSize); errors.Is(err, storage.ErrNotFound) {
					n++
				} else if err != nil {
					return err
				}
				if err := tx.PutJob(j); err != nil {
					return err
				}
			}
			put += len(jobs)
		}
		return nil
	})
	if err == nil && put > 0 {
		x.m.queued.Add(float64(n))
		wake(x.toLease)
	}
	return err
}

// missingJobs makes the jobs that d lacks: it is wanted, it is not queued, or only
// behind all else, and nobody builds it at this moment. Who builds what has passed
// tells nobody of it when that fails, so that the job is filed beforehand, and ends
// with the build.
func (x *Indexer) missingJobs(tx storage.Tx, d digest.Digest, passed map[digest.Digest]oci.Repo) ([]storage.JobRow, error) {
	var spanSizes []int64
	_, gone := passed[d]
	err := tx.Layers(d, func(row storage.LayerRow) error {
		if row.State == storage.LayerWanted && (gone || !x.isClaimed(key{d, row.SpanSize})) {
			spanSizes = append(spanSizes, row.SpanSize)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var jobs []storage.JobRow
	for _, spanSize := range spanSizes {
		job, err := tx.Job(d, spanSize)
		if err == nil && job.Again { // whatever became of fetching it
			jobs = append(jobs, storage.JobRow{
				Layer: job.Layer, SpanSize: spanSize, Fetch: job.Fetch, Priority: job.Priority + behindAll, Created: job.Created,
			})
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		job, found, err := x.jobFor(tx, key{d, spanSize})
		if err != nil {
			return nil, err
		}
		if found {
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// jobFor makes the job of the first image, by digest, that has k.
func (x *Indexer) jobFor(tx storage.Tx, k key) (job storage.JobRow, found bool, err error) {
	err = eachUse(tx, k, func(img *storage.ImageRow, u *storage.ImageLayer) bool {
		if found = len(img.Repos) > 0; found {
			job = storage.JobRow{
				Layer: oci.Layer{Repo: img.Repos[0], Descriptor: u.Descriptor}, SpanSize: k.spanSize,
				Fetch: img.Fetched, Created: x.now().UTC(),
			}
			if rule := x.ruleOf(img); rule != nil {
				job.Priority = rule.Priority
			}
		}
		return !found
	})
	return job, found, err
}

// untried gives the compression of the first image, by digest, that has k with
// one that reason does not name as tried; "" when there is none.
func untried(tx storage.Tx, k key, reason string) (first compression, err error) {
	err = eachUse(tx, k, func(_ *storage.ImageRow, u *storage.ImageLayer) bool {
		if c, _ := classify(u.Descriptor.MediaType); c != "" && !wasTried(reason, c) {
			first = c
		}
		return first == ""
	})
	return first, err
}

// eachUse calls fn for each place where an image has k, while it returns true.
func eachUse(tx storage.Tx, k key, fn func(*storage.ImageRow, *storage.ImageLayer) bool) error {
	err := tx.ImagesOf(k.layer, func(img storage.ImageRow) error {
		for i := range img.Layers {
			if u := &img.Layers[i]; u.Descriptor.Digest == k.layer && u.SpanSize == k.spanSize && !fn(&img, u) {
				return errStop
			}
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func ignoreNotFound(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}
