package indexer

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestReplicasMoveTheTag: of several proxies over one upstream with the same rules, each
// may move TAG-soci on from what it has made as well, whichever had it lead there.
func TestReplicasMoveTheTag(t *testing.T) {
	c := readConversions(t)[0]
	rule := func(spans int64) []Rule {
		return []Rule{{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: spans, PublishUpstream: PublishV2}}
	}
	inBubble(t, func(t *testing.T) {
		up := newOrigin(t)
		one, source := pulledFrom(t, up, c, Options{Rules: rule(64 << 10), Publish: up})
		two, _ := pulledFrom(t, up, c, Options{Rules: rule(64 << 10), Publish: up})
		turn := func(when string, w *world, spans int64) {
			t.Helper()
			w.x.SetRules(rule(spans))
			w.settle()
			row, ok := w.conversion(source)
			if !ok || up.tags["7-soci"] != row.Index.Digest || len(w.tasks()) > 0 {
				t.Fatalf("%s: 7-soci leads to %s, want %s; tasks %q", when, up.tags["7-soci"], row.Index.Digest, w.tasks())
			}
		}
		turn("the second first", two, 128<<10)
		turn("and the first", one, 128<<10)
		turn("the first again", one, 256<<10)
		turn("and the second", two, 256<<10)
		turn("the second alone", two, 512<<10)
		body := []byte(`{"schemaVersion":2}`)
		other := digest.FromBytes(body)
		up.manifests[other], up.tags["7-soci"] = body, other
		one.x.SetRules(rule(64 << 10))
		one.settle()
		if up.tags["7-soci"] != other {
			t.Error("what is somebody else's was moved")
		}
	})
}
