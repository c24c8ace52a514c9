package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// TestPublishWithoutCredentials: that nothing can be pushed to an upstream that is asked
// in its callers' name is said, of each rule that would.
func TestPublishWithoutCredentials(t *testing.T) {
	const upstreams = "upstreams:\n  ours.example: {username: u, password: p}\n  pt.example: {access: passthrough}\nindex:\n  rules: "
	const no = "nothing is pushed to upstreams.pt.example: with access: passthrough pt.example is asked in the name of whoever pulls, and there are no credentials of ours to push with"
	for _, tt := range []struct {
		name, rules string
		want        []string
	}{
		{"everything", `[{repositories: ["**"], publish_upstream: true}]`, []string{"index.rules[0].publish_upstream: " + no}},
		{"by name, of one form", `[{repositories: ["pt.example/team/*:v*"], publish_upstream: v1}]`, []string{"index.rules[0].publish_upstream: " + no}},
		{"not pushed", `[{repositories: ["**"]}]`, nil},
		{"another", `[{repositories: ["ours.example/**", "ours.example/x:v*"], publish_upstream: true}]`, nil},
		{"excluded", `[{repositories: ["**"], exclude: ["pt.example/**"], publish_upstream: true}]`, nil},
		{"in part", `[{repositories: ["**"], exclude: ["pt.example/tmp/**"], publish_upstream: true}]`, []string{"index.rules[0].publish_upstream: " + no}},
		{"left to another rule", `[{repositories: ["pt.example/**:*"]}, {repositories: ["**"], publish_upstream: true}]`, nil},
		{"the second of two", `[{repositories: ["pt.example/a"]}, {repositories: ["*/b"], publish_upstream: true}]`, []string{"index.rules[1].publish_upstream: " + no}},
	} {
		file := filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(file, []byte(upstreams+tt.rules+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := load(sources{File: file})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range warnings {
			got = append(got, strings.TrimPrefix(w, file+":5: "))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestExplainPublishing: config explain promises nothing that is not pushed, and nothing
// else is filed to be.
func TestExplainPublishing(t *testing.T) {
	cfg := Default()
	cfg.Index.Rules[0].PublishUpstream = "true"
	cfg.Hosted = map[string]*HostedConfig{"local": {}}
	cfg.Upstreams = map[string]*UpstreamConfig{
		"pt.example": {URL: "https://pt.example", Access: "passthrough"}, "off.example": {URL: "https://off.example", Offline: true}, "up.example": {URL: "https://up.example"},
	}
	l, err := newLive(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	layer := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromString("layer"), Size: 20 << 20}
	for upstream, want := range map[string]string{
		"local":       "nothing: what is in local was pushed here",
		"pt.example":  "nothing: with access: passthrough pt.example is asked in the name of whoever pulls",
		"off.example": "nothing: with offline: true off.example is never asked",
		"up.example":  "v1, by the referrers API or under the fallback tag; v2, at 1-soci",
	} {
		facts := web.Facts{
			Reference: upstream + "/app:1", Repository: upstream + "/app", Tags: []string{"1"},
			Images: []web.PlatformFacts{{Known: true, Layers: []v1.Descriptor{layer}}},
		}
		e := &explainer{cfg: cfg, offline: true, known: func(context.Context, string) (web.Facts, error) { return facts, nil }}
		x, err := e.explain(t.Context(), facts.Reference)
		if err != nil || !strings.HasPrefix(x.Upstream, want) {
			t.Errorf("%s: %+v, %v, want %q", upstream, x, err, want)
		}
		if takes := (publisher{l}).Takes(oci.Repo{Upstream: upstream, Name: "app"}); takes == strings.HasPrefix(want, "nothing") {
			t.Errorf("%s: takes pushes: %t", upstream, takes)
		}
	}
}
