package indexer

import (
	"context"
	"errors"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// errCancelled is why work ends that an operator cancelled.
var errCancelled = errors.New("cancelled by an operator")

// work is a job or a task, by what there is one row for.
type work struct {
	layer key // of a job

	kind storage.TaskKind // of a task
	repo oci.Repo
	ref  string
}

func taskWork(t *storage.TaskRow) work { return work{kind: t.Kind, repo: t.Repo, ref: t.Reference} }

// begin says that w is done from now on until end is called, and gives the
// context for it, which ends when it is cancelled. free is false when somebody
// is at it already.
func (x *Indexer) begin(ctx context.Context, w work) (_ context.Context, end func(), free bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, taken := x.running[w]; taken {
		return ctx, nil, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x.running[w] = cancel
	return ctx, func() {
		x.mu.Lock()
		delete(x.running, w)
		x.mu.Unlock()
		cancel(nil)
	}, true
}

func (x *Indexer) isRunning(w work) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, taken := x.running[w]
	return taken
}

// stopCancelled ends what is being done and was cancelled, until ctx ends.
func (x *Indexer) stopCancelled(ctx context.Context) error {
	for {
		select {
		case <-x.toStop:
		case <-ctx.Done():
			return nil
		}
		x.mu.Lock()
		var running []work
		for w := range x.running {
			running = append(running, w)
		}
		x.mu.Unlock()
		var stop []work
		err := x.store.View(ctx, func(tx storage.Tx) error {
			stop = stop[:0]
			for _, w := range running {
				cancelled, err := isCancelled(tx, w)
				if err != nil {
					return err
				}
				if cancelled {
					stop = append(stop, w)
				}
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			x.log.WarnContext(ctx, "what was cancelled may go on to its end", "err", err)
		}
		x.mu.Lock()
		for _, w := range stop {
			if cancel := x.running[w]; cancel != nil {
				cancel(errCancelled)
			}
		}
		x.mu.Unlock()
	}
}

// isCancelled reports whether an operator wants w not to be done. A job without
// a row is one that is through, and about to be published; a catalog task, one
// that was cancelled.
func isCancelled(tx storage.Tx, w work) (bool, error) {
	if w.kind == "" {
		j, err := tx.Job(w.layer.layer, w.layer.spanSize)
		return j.Cancelled, ignoreNotFound(err)
	}
	t, err := tx.Task(w.kind, w.repo, w.ref)
	if errors.Is(err, storage.ErrNotFound) {
		return w.kind == storage.TaskCatalog, nil
	}
	return t.Cancelled, err
}
