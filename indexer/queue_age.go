package indexer

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
)

// ageEvery is how often the queue is looked through: it can be long, and
// scrapes can be many.
const ageEvery = 15 * time.Second

// kindLayer is the kind of a job that indexes a layer; the others are kinds of
// tasks.
const kindLayer = "layer"

var taskKinds = []storage.TaskKind{storage.TaskImage, storage.TaskCatalog, storage.TaskConvert, storage.TaskPush}

const queueHelp = "Jobs in the queue, by what is to be done: layers to be indexed from the store, and tasks about images. " +
	"Running ones, those put off after a failure and those given up are among them."

// queueAge knows how many jobs of each kind there are, and when the oldest one
// that still may be done was filed.
type queueAge struct {
	store Store
	now   func() time.Time

	mu     sync.Mutex
	looked time.Time
	seen   queueLook
}

// queueLook is what one look at the queue found.
type queueLook struct {
	oldest time.Time // zero: nothing waits
	jobs   map[string]int
	failed map[string]int // given up
}

// register shows it, if there is a registry. How many layers there are is
// counted as they come and go: see metrics.queued.
func (q *queueAge) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "sociable", Subsystem: "indexer", Name: name, Help: help, ConstLabels: labels,
		}, value))
	}
	gauge("queue_oldest_job_seconds", "For how long the oldest job that is not given up has waited to be done, of layers as of what becomes of "+
		"images (conversions, publishing); 0: none waits.", nil, q.seconds)
	failed := func(kind string) {
		gauge("queue_failed_jobs", "Jobs that were given up, by what was to be done; they are done only when somebody has them tried again.",
			prometheus.Labels{"kind": kind}, func() float64 { return float64(q.fresh().failed[kind]) })
	}
	failed(kindLayer)
	for _, k := range taskKinds {
		failed(string(k))
		gauge("queue_jobs", queueHelp, prometheus.Labels{"kind": string(k)}, func() float64 { return float64(q.fresh().jobs[string(k)]) })
	}
}

// seconds is the age of the oldest job.
func (q *queueAge) seconds() float64 {
	oldest := q.fresh().oldest
	if oldest.IsZero() {
		return 0
	}
	return max(0, q.now().Sub(oldest).Seconds())
}

// fresh is what the last look found. What can't be read counts as before: the
// store's own metrics tell of its troubles.
func (q *queueAge) fresh() queueLook {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if q.looked.IsZero() || now.Sub(q.looked) >= ageEvery {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if seen, err := q.look(ctx); err == nil {
			q.looked, q.seen = now, seen
		}
	}
	return q.seen
}

func (q *queueAge) look(ctx context.Context) (seen queueLook, err error) {
	err = q.store.View(ctx, func(tx storage.Tx) error {
		seen = queueLook{jobs: map[string]int{}, failed: map[string]int{}}
		see := func(kind string, failed, cancelled, slow bool, created time.Time) error {
			seen.jobs[kind]++
			switch {
			case cancelled:
			case failed:
				seen.failed[kind]++
			case !slow && (seen.oldest.IsZero() || created.Before(seen.oldest)):
				seen.oldest = created
			}
			return ctx.Err()
		}
		if err := tx.Jobs(func(j storage.JobRow) error { return see(kindLayer, j.Failed, j.Cancelled, false, j.Created) }); err != nil {
			return err
		}
		return tx.Tasks(func(t storage.TaskRow) error {
			// One that goes through a whole catalog takes as long as that does.
			return see(string(t.Kind), t.Failed, t.Cancelled, t.Kind == storage.TaskCatalog, t.Created)
		})
	})
	return seen, err
}
