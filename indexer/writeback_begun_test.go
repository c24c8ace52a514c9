package indexer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestInterruptedWriteBack: what a push left upstream that did not end counts as
// ours, and goes when it is replaced; before the push is tried again, or behind it.
func TestInterruptedWriteBack(t *testing.T) {
	a := newLayer(t, 1)
	rule := func(spanSize int64) []Rule {
		return []Rule{{Repositories: []string{"**"}, SpanSize: spanSize, Publish: PublishV1, PublishUpstream: PublishV1}}
	}
	for _, tc := range []struct {
		name           string
		unlisted, lost int
		retried        bool
	}{
		{"not listed", 1, 0, true},
		{"listed, not told", 0, 1, true},
		{"not listed, replaced at once", 1, 0, false},
		{"listed, not told, replaced at once", 0, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				img := newImage(t, "img", a)
				up := newOrigin(t)
				up.has(img)
				up.unlisted, up.lost = tc.unlisted, tc.lost
				dir := t.TempDir()
				w := start(t, dir, Options{Rules: rule(64 << 10), Publish: up, Fetch: newSupply(layout{})}, nil)
				w.manifest(redis, img)
				w.whole(a)
				w.settle()
				first := w.wantIndex(img, a).Digest
				if rows := w.published(img.digest); len(rows) != 1 || !rows[0].Begun || !rows[0].Made {
					t.Fatalf("filed %+v before the push ended", rows)
				}
				w.stop() // as if killed: what is known is what is filed
				w = start(t, dir, Options{Rules: rule(64 << 10), Publish: up, Fetch: newSupply(layout{})}, nil)
				if tc.retried {
					time.Sleep(time.Hour)
					rows := w.published(img.digest)
					if len(rows) != 1 || rows[0].Begun || !rows[0].Made || !slices.Equal(up.listed(img.digest), []digest.Digest{first}) {
						t.Errorf("filed %+v, listed %v", rows, up.listed(img.digest))
					}
				}
				w.x.SetRules(rule(128 << 10))
				time.Sleep(time.Hour)
				second := w.wantIndex(img, a).Digest
				if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{second}) || first == second {
					t.Errorf("listed %v, want %s, which is in place of %s", got, second, first)
				}
				if rows := w.published(img.digest); len(rows) != 1 || rows[0].Index != second || len(w.tasks()) > 0 {
					t.Errorf("filed %+v, tasks %q", rows, w.tasks())
				}
			})
		})
	}
}

// TestPushesTheOtherForm: that one form can't be pushed keeps the other from
// nothing, and what may be mended is tried again.
func TestPushesTheOtherForm(t *testing.T) {
	lasts, passes := permanent{errors.New("refused")}, fmt.Errorf("push: %w", errors.New("trouble"))
	for _, tc := range []struct {
		v1, v2 error
		lasts  bool
	}{{nil, nil, false}, {lasts, nil, true}, {nil, passes, false}, {lasts, passes, false}, {passes, lasts, false}, {lasts, lasts, true}} {
		err := bothForms(tc.v1, tc.v2)
		if _, got := errors.AsType[permanent](err); got != tc.lasts || (err == nil) != (tc.v1 == nil && tc.v2 == nil) {
			t.Errorf("%v and %v are %v, for good: %v", tc.v1, tc.v2, err, got)
		}
	}
	c := readConversions(t)[0]
	rule := Rule{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: c.spanSize, PublishUpstream: PublishUpstreamAll}
	inBubble(t, func(t *testing.T) {
		// Of an image that is not multi-platform both forms have one subject.
		s := newSupply(layout{t, "testdata/images/" + c.image + "/before"})
		up := newOrigin(t)
		up.unlisted = 1000
		w := start(t, t.TempDir(), Options{Rules: []Rule{rule}, Publish: up, Fetch: s}, nil)
		s.w = w
		src := s.from.source()
		up.manifests[src.Descriptor.Digest] = src.Body
		maps.Copy(up.manifests, src.Manifests)
		index, err := src.index()
		if err != nil {
			t.Fatal(err)
		}
		one := index.Manifests[0]
		s.types[one.Digest] = one.MediaType
		s.putTag(t, "one", one.Digest)
		w.check("pull", s.FetchManifest(t.Context(), redis, one.Digest))
		for _, l := range parseImage(t, s.from.blob(one.Digest), one.MediaType).manifest.Layers {
			w.whole(s.from.blob(l.Digest))
		}
		time.Sleep(48 * time.Hour)
		var v1, v2 []storage.PublishedRow
		for _, row := range w.published(one.Digest) {
			if row.V2 {
				v2 = append(v2, row)
			} else {
				v1 = append(v1, row)
			}
		}
		if len(v2) != 1 || up.tags["one-soci"] != v2[0].Index || !slices.Equal(v2[0].Tags, []string{"one-soci"}) || len(v2[0].Pushing) > 0 {
			t.Errorf("v2 filed %+v, tags %v", v2, up.tags)
		}
		if len(v1) != 1 || !v1[0].Begun || len(w.tasks()) != 1 {
			t.Errorf("v1 filed %+v, tasks %q", v1, w.tasks())
		}
	})
}
