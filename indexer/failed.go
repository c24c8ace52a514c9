package indexer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sociable/sociable/storage"
)

const (
	// failedKept is for how long an image that could not be fetched is remembered.
	failedKept = 7 * 24 * time.Hour
	// maxFailedTasks bounds them: whoever tells of pushes can name what there is not.
	maxFailedTasks = 1000
)

// forgetFailed deletes image and catalog tasks that were given up long ago, and of
// the rest the oldest where they are too many. Those about what was made here stay:
// there are no more of them than of that, and while they do nobody files them anew.
func (x *Indexer) forgetFailed(ctx context.Context) error {
	var old []storage.TaskRow
	err := x.store.View(ctx, func(tx storage.Tx) (err error) {
		old, err = x.oldFailed(tx)
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return x.store.Update(ctx, func(tx storage.Tx) error {
		now, err := x.oldFailed(tx) // one may have been filed anew meanwhile
		for _, t := range now {
			err = errors.Join(err, tx.DeleteTask(t.Kind, t.Repo, t.Reference))
		}
		return err
	})
}

func (x *Indexer) oldFailed(tx storage.Tx) (old []storage.TaskRow, err error) {
	var failed []storage.TaskRow
	err = tx.Tasks(func(t storage.TaskRow) error {
		if t.Failed && !t.Cancelled && (t.Kind == storage.TaskImage || t.Kind == storage.TaskCatalog) {
			failed = append(failed, t)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The oldest first. That they failed was a pause before the time that is in the row.
	slices.SortStableFunc(failed, func(a, b storage.TaskRow) int { return a.NotBefore.Compare(b.NotBefore) })
	end := x.now().Add(-failedKept)
	n := max(0, len(failed)-maxFailedTasks)
	for n < len(failed) && failed[n].NotBefore.Before(end) {
		n++
	}
	return failed[:n], nil
}
