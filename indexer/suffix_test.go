package indexer

import (
	"maps"
	"slices"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestSuffixIsNotConverted: what a tag with the suffix of converted images leads to is
// converted for the sake of its other tags alone, and nothing is ever at a tag with the
// suffix twice; v1 is not concerned.
func TestSuffixIsNotConverted(t *testing.T) {
	c := readConversions(t)[0]
	inBubble(t, func(t *testing.T) {
		s := newSupply(layout{t, "testdata/images/" + c.image + "/before"})
		up := newOrigin(t)
		rule := Rule{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: c.spanSize, PublishUpstream: PublishUpstreamAll}
		w := start(t, t.TempDir(), Options{Rules: []Rule{rule}, Publish: up, Fetch: s}, nil)
		s.w = w
		src := s.from.source()
		up.manifests[src.Descriptor.Digest] = src.Body
		maps.Copy(up.manifests, src.Manifests)
		up.tags["1-soci"] = src.Descriptor.Digest
		index, err := src.index()
		w.check("read the source", err)
		var platforms []string
		for _, d := range index.Manifests {
			platforms = append(platforms, platformName(d.Platform))
		}
		source := s.pull(t, "1-soci", platforms...)
		w.settle()
		if row, ok := w.conversion(source); ok || len(up.tags) != 1 || len(w.tasks()) > 0 {
			t.Errorf("converted to %+v, tags %v, tasks %q", row, up.tags, w.tasks())
		}
		v1 := 0
		for _, d := range index.Manifests {
			v1 += len(up.listed(d.Digest))
		}
		if v1 == 0 {
			t.Error("no v1 index was pushed")
		}
		s.pull(t, "2", platforms...)
		w.settle()
		row, ok := w.conversion(source)
		if got := slices.Sorted(maps.Keys(up.tags)); !ok || !slices.Equal(got, []string{"1-soci", "2-soci"}) || up.tags["2-soci"] != row.Index.Digest || up.tags["1-soci"] != source {
			t.Errorf("with another tag: converted to %+v, tags %v", row, up.tags)
		}
		if w.convertedTag("2") != row.Index.Digest || w.convertedTag("1-soci") != "" {
			t.Errorf("converted at 2: %s, at 1-soci: %s", w.convertedTag("2"), w.convertedTag("1-soci"))
		}
		// The last tag without the suffix moves away: what was converted stays for who uses it.
		w.check("untag", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(redis, "2") }))
		w.x.SetRules([]Rule{rule})
		w.settle()
		if _, ok := w.conversion(source); !ok {
			t.Error("what was converted is gone")
		}
		for _, tag := range []string{"1-soci-soci", "2-soci-soci"} {
			if base, ok := w.x.ConvertedAt(redis, tag); ok {
				t.Errorf("%s is the converted form of %q", tag, base)
			}
		}
		rule.V2At = V2AtTag
		w.x.SetRules([]Rule{rule})
		if !w.x.ConvertedInPlace(redis, "2") || w.x.ConvertedInPlace(redis, "1-soci") {
			t.Error("converted in place: not 2, or 1-soci")
		}
	})
}
