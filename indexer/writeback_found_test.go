package indexer

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestWriteBackAfterLostStore: an index that was at the upstream before, and is the
// very one that is made here, makes way for its successor, whoever put it there.
func TestWriteBackAfterLostStore(t *testing.T) {
	a := newLayer(t, 1)
	rule := func(spanSize int64) []Rule {
		return []Rule{{Repositories: []string{"**"}, SpanSize: spanSize, Publish: PublishV1, PublishUpstream: PublishV1}}
	}
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := newOrigin(t)
		up.has(img)
		var w *world
		var first digest.Digest
		for _, again := range []bool{false, true} { // then with nothing stored
			w = start(t, t.TempDir(), Options{Rules: rule(64 << 10), Publish: up, Fetch: newSupply(layout{})}, nil)
			w.manifest(redis, img)
			w.whole(a)
			w.settle()
			first = w.wantIndex(img, a).Digest
			if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{first}) {
				t.Fatalf("listed %v, want %s", got, first)
			}
			if rows := w.published(img.digest); len(rows) != 1 || rows[0].Made == again {
				t.Errorf("filed %+v", rows)
			}
			if !again {
				w.stop()
			}
		}
		w.x.SetRules(rule(128 << 10))
		w.settle()
		second := w.wantIndex(img, a).Digest
		if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{second}) || first == second {
			t.Errorf("listed %v, want %s alone, not %s", got, second, first)
		}
		if rows := w.published(img.digest); len(rows) != 1 || rows[0].Index != second || !rows[0].Made || len(w.tasks()) > 0 {
			t.Errorf("filed %+v, tasks %q", rows, w.tasks())
		}
	})
}
