package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sociable/sociable/storage"
)

// maxAttempts is after how many a task or a job is given up, until a person has
// it tried again.
const maxAttempts = 12

// permanent marks an error that another attempt would not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// putTasks files tasks; one that is there begins anew.
func (x *Indexer) putTasks(ctx context.Context, tasks []storage.TaskRow) error {
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		for _, t := range tasks {
			if err := tx.PutTask(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		wake(x.toTask)
	}
	return err
}

// workTasks does tasks, one at a time, the most urgent first.
func (x *Indexer) workTasks(ctx context.Context) error {
	for ctx.Err() == nil {
		err := x.fileMoved(ctx)
		var t *storage.TaskRow
		var wait time.Duration
		if err == nil {
			t, wait, err = x.nextTask(ctx)
		}
		switch {
		case err != nil:
			if ctx.Err() == nil {
				x.log.WarnContext(ctx, "tasks not read", "err", err)
			}
			pause(ctx, time.Second)
		case t != nil:
			x.doTask(ctx, t)
		default:
			await(ctx, x.toTask, wait)
		}
	}
	return nil
}

func (x *Indexer) nextTask(ctx context.Context) (next *storage.TaskRow, wait time.Duration, err error) {
	now := x.now()
	err = x.store.View(ctx, func(tx storage.Tx) error {
		next, wait = nil, 0
		return tx.Tasks(func(t storage.TaskRow) error {
			if t.Failed {
				return nil
			}
			if d := t.NotBefore.Sub(now); d > 0 {
				if wait == 0 || d < wait {
					wait = d
				}
				return nil
			}
			next = &t
			return errStop
		})
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return next, wait, err
}

func (x *Indexer) doTask(ctx context.Context, t *storage.TaskRow) {
	var err error
	switch t.Kind {
	case storage.TaskConvert:
		err = x.convert(ctx, t)
	case storage.TaskImage:
		err = x.fetchImage(ctx, t)
	default:
		err = permanent{fmt.Errorf("nobody does %s tasks here", t.Kind)}
	}
	if ctx.Err() != nil {
		return // still filed
	}
	if errors.Is(err, errChanged) {
		return // at once again, by the rows of now
	}
	if err != nil {
		x.log.WarnContext(ctx, "task failed", "kind", t.Kind, "repo", t.Repo.String(), "ref", t.Reference, "attempts", t.Attempts+1, "err", err)
	}
	if uerr := x.endTask(ctx, *t, err); uerr != nil && ctx.Err() == nil {
		x.log.WarnContext(ctx, "task not filed", "kind", t.Kind, "err", uerr)
		pause(ctx, time.Second)
	}
}

// endTask deletes a task that is done, unless it was filed anew meanwhile, and
// puts one off that failed.
func (x *Indexer) endTask(ctx context.Context, t storage.TaskRow, cause error) error {
	return x.store.Update(ctx, func(tx storage.Tx) error {
		now, err := tx.Task(t.Kind, t.Repo, t.Reference)
		if err != nil || !now.Created.Equal(t.Created) {
			return ignoreNotFound(err)
		}
		if cause == nil {
			return tx.DeleteTask(t.Kind, t.Repo, t.Reference)
		}
		now.Attempts++
		now.NotBefore = x.now().Add(backoff(now.Attempts)).UTC()
		now.LastError = clip(cause.Error())
		_, lasting := errors.AsType[permanent](cause)
		now.Failed = lasting || now.Attempts >= maxAttempts
		return tx.PutTask(now)
	})
}

// await waits for a note, or until wait has passed where it is not 0.
func await(ctx context.Context, note <-chan struct{}, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-note:
	case <-due:
	case <-ctx.Done():
	}
}
