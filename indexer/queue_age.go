package indexer

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
)

// ageEvery is how often the queue is looked through for its oldest job: a
// queue can be long, and scrapes can be many.
const ageEvery = 15 * time.Second

// queueAge knows when the oldest job that still may be done was filed.
type queueAge struct {
	store Store
	now   func() time.Time

	mu     sync.Mutex
	looked time.Time
	oldest time.Time // zero: nothing waits
}

// register shows it, if there is a registry.
func (q *queueAge) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sociable", Subsystem: "indexer", Name: "queue_oldest_job_seconds",
		Help: "For how long the oldest job that is not given up has waited to be done, of layers as of what becomes of images (conversions, publishing); 0: none waits.",
	}, q.seconds))
}

// seconds is the age of the oldest job. What can't be read counts as before:
// the store's own metrics tell of its troubles.
func (q *queueAge) seconds() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if q.looked.IsZero() || now.Sub(q.looked) >= ageEvery {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if oldest, err := q.look(ctx); err == nil {
			q.looked, q.oldest = now, oldest
		}
	}
	if q.oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(q.oldest).Seconds())
}

func (q *queueAge) look(ctx context.Context) (oldest time.Time, err error) {
	err = q.store.View(ctx, func(tx storage.Tx) error {
		oldest = time.Time{}
		see := func(failed bool, created time.Time) error {
			if !failed && (oldest.IsZero() || created.Before(oldest)) {
				oldest = created
			}
			return ctx.Err()
		}
		if err := tx.Jobs(func(j storage.JobRow) error { return see(j.Failed, j.Created) }); err != nil {
			return err
		}
		return tx.Tasks(func(t storage.TaskRow) error {
			// One that goes through a whole catalog takes as long as that does.
			return see(t.Failed || t.Kind == storage.TaskCatalog, t.Created)
		})
	})
	return oldest, err
}
