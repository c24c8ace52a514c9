package indexer

import (
	"maps"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// pulledFrom is a world into which the image of c, with all its platforms, was pulled
// as redis:7 from up, and has been converted.
func pulledFrom(t *testing.T, up *origin, c conversion, o Options) (w *world, source digest.Digest) {
	t.Helper()
	s := newSupply(layout{t, "testdata/images/" + c.image + "/before"})
	o.Fetch = s
	w = start(t, t.TempDir(), o, nil)
	s.w = w
	src := s.from.source()
	up.manifests[src.Descriptor.Digest] = src.Body
	maps.Copy(up.manifests, src.Manifests)
	index, err := src.index()
	w.check("read the source", err)
	var platforms []string
	for _, d := range index.Manifests {
		platforms = append(platforms, platformName(d.Platform))
	}
	source = s.pull(t, "7", platforms...)
	w.settle()
	return w, source
}

// TestTakesAwayNoCopy: a converted image that somebody tagged as well stays at the
// upstream when its image is deleted, as long as that tag leads to it.
func TestTakesAwayNoCopy(t *testing.T) {
	c := readConversions(t)[0]
	rule := Rule{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: c.spanSize, PublishUpstream: PublishV2}
	for name, stays := range map[string]bool{"the tag leads to it": true, "the tag moved since": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				up := &deleter{origin: newOrigin(t)}
				w, source := pulledFrom(t, up.origin, c, Options{Rules: []Rule{rule}, Publish: up})
				row, ok := w.conversion(source)
				if !ok || !up.has(row.Index.Digest) {
					t.Fatalf("it is not there: %+v", row)
				}
				up.tags["prod"] = row.Index.Digest
				w.check("tag it", w.store.Update(t.Context(), func(tx storage.Tx) error {
					return tx.PutTag(storage.TagRow{Repo: redis, Tag: "prod", Digest: row.Index.Digest})
				}))
				if !stays {
					up.tags["prod"] = digest.FromString("another")
				}
				up.remove(source)
				w.check("forget the tag", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(redis, "7") }))
				w.x.Deleted(t.Context(), redis, source)
				w.settle()
				w.wantAway("in the end", source)
				if got := up.has(row.Index.Digest); got != stays {
					t.Errorf("the converted image is there: %t, want %t", got, stays)
				}
			})
		})
	}
}
