package indexer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sociable/sociable/storage"
)

// busyPause is how long the queue waits while clients have much to do.
const busyPause = time.Second

// worker takes jobs off the queue, oldest first, and does them.
func (x *Indexer) worker(ctx context.Context) error {
	for ctx.Err() == nil {
		if x.opt.Busy != nil && x.opt.Busy() {
			pause(ctx, busyPause)
			continue
		}
		job, wait, err := x.lease(ctx)
		switch {
		case err != nil:
			x.log.WarnContext(ctx, "queue not read", "err", err)
			pause(ctx, time.Second)
		case job != nil:
			wake(x.toLease) // there may be another one, for another worker
			x.work(ctx, job)
		default:
			await(ctx, x.toLease, wait)
		}
	}
	return nil
}

var errStop = errors.New("found")

// lease claims the oldest job that may be done now. Without one, wait is the
// time until there is, 0 when nothing waits.
func (x *Indexer) lease(ctx context.Context) (job *storage.JobRow, wait time.Duration, err error) {
	now := x.now()
	err = x.store.View(ctx, func(tx storage.Tx) error {
		job, wait = nil, 0
		return tx.Jobs(func(j storage.JobRow) error {
			if j.Failed || j.Cancelled {
				return nil
			}
			if d := j.NotBefore.Sub(now); d > 0 {
				if wait == 0 || d < wait {
					wait = d
				}
				return nil
			}
			if !x.claim(jobKey(&j)) {
				return nil
			}
			job = &j
			return errStop
		})
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, 0, err
	}
	return job, wait, nil
}

func jobKey(j *storage.JobRow) key { return key{j.Layer.Digest, j.SpanSize} }

// work does one job, which the caller has claimed.
func (x *Indexer) work(ctx context.Context, job *storage.JobRow) {
	k := jobKey(job)
	defer x.release(k)
	ctx, end, free := x.begin(ctx, work{layer: k})
	if !free {
		return
	}
	defer end()
	err := x.index(ctx, k, x.sourceOf(ctx, job))
	if err == nil && job.Again {
		x.letGo(ctx, k.layer)
	}
	if err == nil || errors.Is(err, errAgain) || ctx.Err() != nil {
		return // done, or still queued
	}
	if errors.Is(err, errMismatch) {
		err = x.dropRotten(ctx, job, err)
	}
	if errors.Is(err, errNotWanted) || errors.Is(err, errGone) {
		x.log.DebugContext(ctx, "job dropped", "digest", k.layer, "err", err)
		err = x.dropJob(ctx, k)
	} else {
		x.m.builds.WithLabelValues(resultFailed).Inc()
		x.log.WarnContext(ctx, "layer not indexed, trying again", "digest", k.layer, "attempts", job.Attempts+1, "err", err)
		err = x.postpone(ctx, *job, err)
	}
	if err != nil {
		x.log.WarnContext(ctx, "queue not written", "digest", k.layer, "err", err)
		pause(ctx, time.Second)
	}
}

// dropRotten drops a layer of which the stored bytes are others by now: another
// attempt would read the same. Where it may be fetched it is; else it is gone
// until somebody pulls it, or pushes it again.
func (x *Indexer) dropRotten(ctx context.Context, job *storage.JobRow, cause error) error {
	quarantined, err := x.store.SetAside(ctx, job.Layer.Digest)
	if err != nil {
		return errors.Join(cause, err)
	}
	if quarantined {
		x.log.ErrorContext(ctx, "pushed layer is damaged, its bytes are in quarantine: push it again", "digest", job.Layer.Digest, "repo", job.Layer.Repo, "err", cause)
		return fmt.Errorf("%w: %w", errGone, cause)
	}
	x.log.ErrorContext(ctx, "stored layer is damaged, dropped", "digest", job.Layer.Digest, "err", cause)
	if job.Fetch {
		return cause
	}
	return fmt.Errorf("%w: %w", errGone, cause)
}

// sourceOf reads the job's layer from the store, or where that is wanted as it
// comes from upstream: once, and whether or not there is room to keep it.
func (x *Indexer) sourceOf(ctx context.Context, job *storage.JobRow) source {
	fetch := func() (io.ReadCloser, error) {
		r, err := x.opt.Fetch.OpenBlob(ctx, job.Layer.Repo, job.Layer.Descriptor)
		if err != nil {
			return nil, fmt.Errorf("fetch layer: %w", err)
		}
		return struct {
			io.Reader
			io.Closer
		}{x.polite(ctx, jobKey(job), r), r}, nil
	}
	mayFetch := job.Fetch && x.opt.Fetch != nil
	if _, err := x.store.Stat(ctx, job.Layer.Digest); errors.Is(err, storage.ErrNotFound) && mayFetch {
		return source{open: fetch}
	}
	return source{verified: true, open: func() (io.ReadCloser, error) {
		r, err := x.openStored(ctx, jobKey(job))
		if errors.Is(err, errGone) && mayFetch { // evicted since
			return fetch()
		}
		return r, err
	}}
}

// openStored reads the layer of k in the store from its first byte to its last.
func (x *Indexer) openStored(ctx context.Context, k key) (io.ReadCloser, error) {
	b, err := x.store.Open(ctx, k.layer)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{x.polite(ctx, k, io.NewSectionReader(b, 0, b.Size())), b}, nil
}

// polite reads r, and pauses while clients have much to do and none of them waits
// for k.
func (x *Indexer) polite(ctx context.Context, k key, r io.Reader) io.Reader {
	if x.opt.Busy == nil {
		return r
	}
	return readerFunc(func(p []byte) (int, error) {
		for x.opt.Busy() && !x.isAwaited(k) && ctx.Err() == nil {
			pause(ctx, busyPause)
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (x *Indexer) dropJob(ctx context.Context, k key) error {
	var had bool
	err := x.store.Update(ctx, func(tx storage.Tx) (err error) {
		had, err = deleteJob(tx, k)
		return err
	})
	if err == nil && had {
		x.m.queued.Dec()
	}
	return err
}

// deleteJob reports whether there was one.
func deleteJob(tx storage.Tx, k key) (bool, error) {
	_, err := tx.Job(k.layer, k.spanSize)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	return true, tx.DeleteJob(k.layer, k.spanSize)
}

// fullAttempts is what the first attempt counts for that fetched a layer and found no
// room for its zTOC: each of them fetches it anew, and room does not come in seconds.
const fullAttempts = 9

func (x *Indexer) postpone(ctx context.Context, job storage.JobRow, cause error) error {
	job.Attempts++
	if job.Fetch && errors.Is(cause, storage.ErrFull) {
		job.Attempts = max(job.Attempts, fullAttempts)
	}
	job.NotBefore = x.now().Add(backoff(job.Attempts)).UTC()
	job.LastError = clip(cause.Error())
	job.Failed = job.Attempts >= maxAttempts
	return x.store.Update(ctx, func(tx storage.Tx) error {
		now, err := tx.Job(job.Layer.Digest, job.SpanSize)
		if err != nil {
			return ignoreNotFound(err) // it is through meanwhile
		}
		job.Cancelled = now.Cancelled
		return tx.PutJob(job)
	})
}
