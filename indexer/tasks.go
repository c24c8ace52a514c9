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

// taskWorkers is how many tasks are done at once: most of them wait for an
// upstream.
const taskWorkers = 3

// putTasks files tasks; one that is there begins anew, unless it was cancelled.
func (x *Indexer) putTasks(ctx context.Context, tasks []storage.TaskRow) error {
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		for _, t := range tasks {
			if err := putTask(tx, t); err != nil {
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

func putTask(tx storage.Tx, t storage.TaskRow) error {
	was, err := tx.Task(t.Kind, t.Repo, t.Reference)
	if err = ignoreNotFound(err); err != nil || was.Cancelled {
		return err
	}
	if !t.Created.After(was.Created) { // so that endTask sees that it was filed anew, in the same instant, too
		t.Created = was.Created.Add(1)
	}
	return tx.PutTask(t)
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
			wake(x.toTask) // there may be another one, for another worker
			x.doTask(ctx, t)
		default:
			await(ctx, x.toTask, wait)
		}
	}
	return nil
}

// nextTask gives the first task that may be done now. Without one, wait is the
// time until there may be, 0 when nothing waits.
func (x *Indexer) nextTask(ctx context.Context) (next *storage.TaskRow, wait time.Duration, err error) {
	now := x.now()
	busy := x.opt.Busy != nil && x.opt.Busy()
	err = x.store.View(ctx, func(tx storage.Tx) error {
		next, wait = nil, 0
		return tx.Tasks(func(t storage.TaskRow) error {
			if t.Failed || t.Cancelled || x.isRunning(taskWork(&t)) {
				return nil
			}
			d := t.NotBefore.Sub(now)
			if busy && t.Kind != storage.TaskConvert { // of what clients pull at this moment
				d = max(d, busyPause)
			}
			if d > 0 {
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
	ctx, end, free := x.begin(ctx, taskWork(t))
	if !free {
		return
	}
	defer wake(x.toTask) // it may have been filed anew meanwhile
	defer end()
	if still, err := x.stillThere(ctx, t); err != nil || !still {
		return // another worker has just done it
	}
	var err error
	switch t.Kind {
	case storage.TaskConvert:
		err = x.convert(ctx, t)
	case storage.TaskImage:
		err = x.fetchImage(ctx, t)
	case storage.TaskPush:
		err = x.push(ctx, t)
	case storage.TaskCatalog:
		err = x.goThrough(ctx, t)
	default:
		err = permanent{fmt.Errorf("nobody does %s tasks here", t.Kind)}
	}
	if ctx.Err() != nil {
		return // still filed
	}
	if errors.Is(err, errChanged) || errors.Is(err, errLater) {
		return // again, by the rows of now
	}
	if err != nil && !isEarly(t, err) {
		x.m.taskFailures.WithLabelValues(string(t.Kind)).Inc()
		x.log.WarnContext(ctx, "task failed", "kind", t.Kind, "repo", t.Repo.String(), "ref", t.Reference, "attempts", t.Attempts+1, "err", err)
	}
	if uerr := x.endTask(ctx, *t, err); uerr != nil && ctx.Err() == nil {
		x.log.WarnContext(ctx, "task not filed", "kind", t.Kind, "err", uerr)
		pause(ctx, time.Second)
	}
}

// stillThere reports whether t is to be done, after it was looked up.
func (x *Indexer) stillThere(ctx context.Context, t *storage.TaskRow) (ok bool, err error) {
	err = x.store.View(ctx, func(tx storage.Tx) error {
		now, err := tx.Task(t.Kind, t.Repo, t.Reference)
		if ok = err == nil && now.Attempts == t.Attempts && !now.Failed && !now.Cancelled; ok {
			*t = now
		}
		return ignoreNotFound(err)
	})
	return ok, err
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
		now.NotBefore = x.now().Add(taskPause(now.Attempts, cause)).UTC()
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
