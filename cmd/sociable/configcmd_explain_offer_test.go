package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// TestExplainIsOneTruth: what is said of the rule, of what is published and of the
// layers is the same, whatever goes before the rule.
func TestExplainIsOneTruth(t *testing.T) {
	layer := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromString("layer"), Size: 20 << 20}
	repo, other := oci.Repo{Upstream: "docker.io", Name: "a/excluded"}, oci.Repo{Upstream: "docker.io", Name: "a/b"}
	facts := func(in oci.Repo, img *storage.ImageRow) web.Facts {
		if img != nil {
			img.Layers = []storage.ImageLayer{{Descriptor: layer}}
		}
		return web.Facts{
			Reference: in.String() + ":1", Repository: in.String(), Tags: []string{"1"},
			Images: []web.PlatformFacts{{Known: true, Layers: []v1.Descriptor{layer}, Image: img}},
		}
	}
	carries := facts(other, nil)
	carries.SOCI, carries.Images[0].SOCI = true, true
	taken := facts(other, nil)
	taken.Beside = []web.TagFacts{{Tag: "1-soci", Digest: digest.FromString("theirs"), Made: []digest.Digest{digest.FromString("ours")}}}
	suffixed, both := facts(other, nil), facts(other, nil)
	suffixed.Tags, both.Tags = []string{"1-soci"}, []string{"1", "x-soci"}
	suffixed.Beside = []web.TagFacts{{Tag: "1-soci-soci", Digest: digest.FromString("theirs")}}
	ours := facts(other, nil)
	ours.Beside = []web.TagFacts{{Tag: "1-soci", Digest: digest.FromString("ours"), Made: []digest.Digest{digest.FromString("ours")}}}
	for name, tt := range map[string]struct {
		facts     web.Facts
		want, not []string
	}{
		"no rule": {facts(repo, nil), []string{"none applies: it is not indexed", "publish          none: no rule applies", "left out: rule"}, []string{"v1,"}},
		"asked for without a rule": {
			facts(repo, &storage.ImageRow{Repos: []oci.Repo{repo}, Asked: &storage.Asked{Repos: []oci.Repo{repo}}}),
			[]string{"none applies: what was asked for with sociable index create holds", "publish          v1, a referrer", "which needs no rule", "at the upstream  nothing", "indexed, spans of"},
			[]string{"not indexed", "before the rule"},
		},
		"indexed for another repository": {
			facts(repo, &storage.ImageRow{Repos: []oci.Repo{other, repo}}),
			[]string{"none applies: no index of it is offered in docker.io/a/excluded", "publish          none: no rule applies", "indexed once, by index.rules[0]", "indexed, spans of"},
			[]string{"not indexed"},
		},
		"withdrawn": {
			facts(other, &storage.ImageRow{Repos: []oci.Repo{other}, WithdrawnIn: []oci.Repo{other}}),
			[]string{"publish          none: withdrawn with sociable index rm"}, []string{"v1,", "v2,"},
		},
		"carries a SOCI index": {
			carries, []string{"publish          none: it is a SOCI index, or carries one", "at the upstream  nothing", "never indexed again"},
			[]string{"v1,", "v2,", "indexed, spans of"},
		},
		"the tag is the upstream's": {
			taken, []string{"v1, a referrer of each platform's manifest; no v2, as the upstream has the tag", "warning          docker.io/a/b:1-soci is the upstream's own"},
			[]string{"v2, at"},
		},
		"the tag has the suffix": {
			suffixed, []string{"v1, a referrer of each platform's manifest; no v2, as its tag has the -soci", "at the upstream  v1, by the referrers API or under the fallback tag; no v2"},
			[]string{"v2, at", "warning"},
		},
		"one of its tags has the suffix": {both, []string{"v2, at 1-soci"}, []string{"-soci-soci", "warning"}},
		"the tag was pushed from here":   {ours, []string{"v2, at 1-soci"}, []string{"warning"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			cfg.Index.Rules[0].Exclude, cfg.Index.Rules[0].PublishUpstream = []string{"docker.io/a/excluded"}, "true"
			known := func(context.Context, string) (web.Facts, error) { return tt.facts, nil }
			x, err := (&explainer{cfg: cfg, known: known, offline: true}).explain(t.Context(), "a/b:1")
			var out bytes.Buffer
			if err == nil {
				err = x.print(&out)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q in\n%s", w, &out)
				}
			}
			for _, w := range tt.not {
				if strings.Contains(out.String(), w) {
					t.Errorf("%q in\n%s", w, &out)
				}
			}
		})
	}
}
