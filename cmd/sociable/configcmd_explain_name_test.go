package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestExplainByName: of an image that is nowhere its name decides, exclusions by tag,
// too; one that may be somewhere is not explained.
func TestExplainByName(t *testing.T) {
	status := http.StatusNotFound
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
	defer up.Close()
	cfg := Default()
	cfg.Storage.Path = t.TempDir()
	cfg.Hosted = map[string]*HostedConfig{"local": {}}
	for name, offline := range map[string]bool{"lab": false, "gap": true} {
		cfg.Upstreams[name] = defaultUpstream(name)
		cfg.Upstreams[name].URL, cfg.Upstreams[name].Offline, cfg.Upstreams[name].Retries = up.URL, offline, 0
	}
	first := defaultRule()
	first.Repositories, first.Exclude = []string{"lab/**", "local/**", "gap/**"}, []string{"lab/**:skip-*"}
	cfg.Index.Rules = []IndexRule{first}
	const both = "v1, a referrer of each platform's manifest; v2, at "
	absent := "lab/a@" + digest.FromString("none").String()
	for _, tt := range []struct {
		word    string
		offline bool
		rule    int
		publish string
		source  string
	}{
		{"lab/a:1", false, 0, both + "1-soci", "nor at its upstream"},
		{"lab/a:skip-3", false, -1, "none: no rule applies", "nor at its upstream"},
		{"lab/a:1", true, 0, both + "1-soci", "the upstream was not asked"},
		{"local/a:1", false, 0, both + "1-soci", "no such image here"},
		{"gap/a:1", false, 0, both + "1-soci", "offline by configuration"},
		{"redis:7", true, -1, "none: no rule applies", "the upstream was not asked"},
		{absent, false, 0, "v1, a referrer of each platform's manifest; v2, once a tag leads to it", "nor at its upstream"},
	} {
		x, err := (&explainer{cfg: cfg, known: nothingKnown, offline: tt.offline}).explain(t.Context(), tt.word)
		if err != nil {
			t.Errorf("%s: %v", tt.word, err)
			continue
		}
		if x.Rule != tt.rule || x.Publish != tt.publish || !x.Missing || !strings.HasPrefix(x.Source, "its name alone: ") || !strings.Contains(x.Source, tt.source) {
			t.Errorf("%s: %+v, want %+v", tt.word, x, tt)
		}
		var out bytes.Buffer
		if err := x.print(&out); err != nil || !strings.Contains(out.String(), "\nknown from       its name alone: ") {
			t.Errorf("%s: %v\n%s", tt.word, err, &out)
		}
	}
	status = http.StatusForbidden
	for _, word := range []string{"lab/a:1", "nowhere.example/a:1"} {
		if x, err := (&explainer{cfg: cfg, known: nothingKnown}).explain(t.Context(), word); err == nil {
			t.Errorf("%s: %+v", word, x)
		}
	}
}
