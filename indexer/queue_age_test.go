package indexer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
)

// TestQueueMetricsSeeTasks: conversions and all else that is done about images
// counts as layers do, put off or given up; what was cancelled has no age.
func TestQueueMetricsSeeTasks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		w := start(t, t.TempDir(), Options{Rules: everything, Registerer: reg}, nil)
		now := time.Now().UTC()
		err := w.store.Update(t.Context(), func(tx storage.Tx) error {
			return errors.Join(
				tx.PutTask(storage.TaskRow{Kind: storage.TaskConvert, Repo: redis, Reference: "off", NotBefore: now.Add(24 * time.Hour), Created: now.Add(-time.Hour)}),
				tx.PutTask(storage.TaskRow{Kind: storage.TaskConvert, Repo: redis, Reference: "dead", Failed: true, Created: now.Add(-3 * time.Hour)}),
				tx.PutTask(storage.TaskRow{Kind: storage.TaskPush, Repo: redis, Reference: "not", Cancelled: true, Created: now.Add(-2 * time.Hour)}),
			)
		})
		w.check("put tasks", err)
		want := `
# HELP sociable_indexer_queue_failed_jobs Jobs that were given up, by what was to be done; they are done only when somebody has them tried again.
# TYPE sociable_indexer_queue_failed_jobs gauge
sociable_indexer_queue_failed_jobs{kind="catalog"} 0
sociable_indexer_queue_failed_jobs{kind="convert"} 1
sociable_indexer_queue_failed_jobs{kind="image"} 0
sociable_indexer_queue_failed_jobs{kind="layer"} 0
sociable_indexer_queue_failed_jobs{kind="push"} 0
# HELP sociable_indexer_queue_jobs ` + queueHelp + `
# TYPE sociable_indexer_queue_jobs gauge
sociable_indexer_queue_jobs{kind="catalog"} 0
sociable_indexer_queue_jobs{kind="convert"} 2
sociable_indexer_queue_jobs{kind="image"} 0
sociable_indexer_queue_jobs{kind="layer"} 0
sociable_indexer_queue_jobs{kind="push"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sociable_indexer_queue_jobs", "sociable_indexer_queue_failed_jobs"); err != nil {
			t.Error(err)
		}
		age := queueAge{store: w.x.store, now: time.Now}
		if got := age.seconds(); got != 3600 {
			t.Errorf("the oldest job has waited %v s, want 3600", got)
		}
	})
}

// TestFailedTasksAreCounted: one that goes wrong shows in the metrics.
func TestFailedTasksAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything, Fetch: &flow{}}, nil)
		const strange = storage.TaskKind("strange") // nobody does it
		if slices.Contains(taskKinds, strange) {
			t.Fatal("somebody does it")
		}
		w.check("put task", w.x.putTasks(t.Context(), []storage.TaskRow{{Kind: strange, Repo: redis, Reference: "a", Created: time.Now()}}))
		w.settle()
		if got := value(t, w.x.m.taskFailures.WithLabelValues(string(strange))); got != 1 {
			t.Errorf("%v failures are counted, want 1", got)
		}
	})
}
