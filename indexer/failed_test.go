package indexer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sociable/sociable/storage"
)

// TestForgetsFailed: images that there are not are remembered for a week and up to
// a bound, and keep nobody from telling of others; what else failed stays.
func TestForgetsFailed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, Fetch: newSupply(layout{})}, nil)
		w.settle()
		file := func(first time.Time) {
			w.check("file", w.store.Update(t.Context(), func(tx storage.Tx) error {
				row := storage.TaskRow{Kind: storage.TaskPush, Repo: redis, Reference: "made", Created: first, NotBefore: first, Failed: true}
				err := tx.PutTask(row)
				row.Kind = storage.TaskImage
				for i := range maxFailedTasks + 50 {
					row.Reference, row.NotBefore = fmt.Sprintf("gone%d", i), first.Add(time.Duration(i)*time.Second)
					err = errors.Join(err, tx.PutTask(row))
				}
				return err
			}))
		}
		file(time.Now().UTC())
		w.view(func(tx storage.Tx) error {
			if full, err := isFull(tx, 1); full || err != nil {
				t.Errorf("what failed keeps others from being filed, %v", err)
			}
			return nil
		})
		time.Sleep(retirePause + time.Minute)
		if n := len(w.tasks()); n != maxFailedTasks+1 {
			t.Errorf("%d tasks are remembered, want %d of images, and a push", n, maxFailedTasks)
		}
		w.view(func(tx storage.Tx) error {
			if _, err := tx.Task(storage.TaskImage, redis, "gone49"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("not the oldest are forgotten: %v", err)
			}
			_, err := tx.Task(storage.TaskImage, redis, "gone50")
			return err
		})
		file(time.Now().UTC().Add(-failedKept - time.Hour))
		time.Sleep(retirePause + time.Minute)
		if got := w.tasks(); len(got) != 1 {
			t.Errorf("%d tasks are remembered a week later, want the push alone", len(got))
		}
	})
}
