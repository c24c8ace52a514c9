package indexer

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestUpstreamKeepsReplaced: where an upstream does not delete what was replaced, and
// lists it, there is a task that says so, and it is done with once it may be retried.
func TestUpstreamKeepsReplaced(t *testing.T) {
	a := newLayer(t, 1)
	rule := func(spanSize int64) []Rule {
		return []Rule{{Repositories: []string{"**"}, SpanSize: spanSize, Publish: PublishV1, PublishUpstream: PublishV1}}
	}
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := newOrigin(t)
		up.has(img)
		w := start(t, t.TempDir(), Options{Rules: rule(64 << 10), Publish: up, Fetch: newSupply(layout{})}, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		want := []digest.Digest{w.wantIndex(img, a).Digest}
		up.noDelete = true
		kept := func() (t storage.TaskRow) {
			w.view(func(tx storage.Tx) (err error) {
				t, err = tx.Task(storage.TaskPush, redis, img.digest.String())
				return ignoreNotFound(err)
			})
			return t
		}
		for _, spans := range []int64{128 << 10, 256 << 10} {
			last := want[len(want)-1]
			w.x.SetRules(rule(spans))
			w.settle()
			want = append(want, w.wantIndex(img, a).Digest)
			if got := up.listed(img.digest); !slices.Equal(got, want) {
				t.Errorf("listed %v, want %v", got, want)
			}
			if task := kept(); !task.Failed || !strings.Contains(task.LastError, "still lists the replaced "+last.String()) {
				t.Errorf("of what is kept is said %+v", task)
			}
			if rows := w.published(img.digest); len(rows) != len(want) {
				t.Errorf("filed %+v", rows)
			}
		}
		up.noDelete = false
		w.manifest(redis, img) // changes nothing: a person has it tried again
		w.settle()
		task := kept()
		if !task.Failed {
			t.Errorf("tried again by itself: %+v", task)
		}
		task.Failed, task.Attempts, task.NotBefore = false, 0, time.Time{}
		w.check("retry", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.PutTask(task) }))
		w.x.Wake()
		w.settle()
		if got := up.listed(img.digest); !slices.Equal(got, want[2:]) || kept().Kind != "" || len(w.published(img.digest)) != 1 {
			t.Errorf("listed %v, want %v; filed %+v, task %+v", got, want[2:], w.published(img.digest), kept())
		}
	})
}
