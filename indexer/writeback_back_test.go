package indexer

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func pushingV1(spanSize int64) []Rule {
	return []Rule{{Repositories: []string{"**"}, SpanSize: spanSize, Publish: PublishV1, PublishUpstream: PublishV1}}
}

// replica is a sociable with a store of its own, over an upstream that others have,
// too.
func replica(t *testing.T, up Publisher, spanSize int64, img *image, layer []byte) *world {
	t.Helper()
	w := start(t, t.TempDir(), Options{Rules: pushingV1(spanSize), Publish: up, Fetch: newSupply(layout{})}, nil)
	w.manifest(redis, img)
	w.whole(layer)
	w.settle()
	return w
}

// turn has w take another rule over, and gives the index that follows.
func (w *world) turn(spanSize int64, img *image, layer []byte) digest.Digest {
	w.t.Helper()
	w.x.SetRules(pushingV1(spanSize))
	w.settle()
	return w.wantIndex(img, layer).Digest
}

// TestRulesGoBack: an index that was at the upstream before is listed again, and goes
// again, where the upstream deletes nothing, too.
func TestRulesGoBack(t *testing.T) {
	a := newLayer(t, 1)
	for _, tc := range []struct {
		name   string
		keeps  bool
		forget bool // what earlier versions did not keep: what is there, and unlisted, is from here
	}{{"it deletes", false, false}, {"it keeps what it does not list", true, false}, {"and that is not known", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				img := newImage(t, "img", a)
				up := newOrigin(t)
				up.has(img)
				var to Publisher = &deleter{origin: up}
				if tc.keeps {
					up.keeps, to = true, up
				}
				w := replica(t, to, 64<<10, img, a)
				for _, spans := range []int64{128 << 10, 64 << 10, 256 << 10, 128 << 10, 64 << 10, 512 << 10} {
					want := w.turn(spans, img, a)
					if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{want}) || len(w.tasks()) > 0 {
						t.Fatalf("spans of %d: listed %v, want %s; tasks %q, filed %+v", spans, got, want, w.tasks(), w.published(img.digest))
					}
					for _, row := range w.published(img.digest) {
						if row.Instead != "" || row.Begun || row.Unlisted == (row.Index == want) || !row.Made && !tc.forget {
							t.Errorf("spans of %d: filed %+v", spans, row)
						}
						if tc.forget && row.Unlisted {
							w.check("forget", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeletePublished(row.Repo, row.Subject, row.Index) }))
						}
					}
				}
			})
		})
	}
}
