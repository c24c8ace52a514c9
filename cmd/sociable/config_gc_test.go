package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func TestRetention(t *testing.T) {
	c := loadText(t, `
hosted: {local: {immutable: ["app:v*"]}, team: {}}
gc: {pulled_after: 0s}
retention:
  - {repositories: ["local/ci/**"], keep_last: 3, keep_for: 24h, keep_tags: [latest, "v*"], untagged: 1h}
`)
	o := collectOptions(c, nil, nil, nil)
	want := []storage.Retention{{
		Repositories: []string{"local/ci/**"}, KeepLast: 3, KeepFor: 24 * time.Hour, KeepTags: []string{"latest", "v*"}, Untagged: time.Hour,
	}}
	if diff := cmp.Diff(want, o.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"local", "team"}, o.Hosted); diff != "" || o.Pulled != 0 || o.Grace != 24*time.Hour || o.Uploads != 24*time.Hour {
		t.Errorf("%+v", o)
	}
	for repo, want := range map[oci.Repo]bool{{Upstream: "local", Name: "app"}: true, {Upstream: "local", Name: "b"}: false, {Upstream: "team", Name: "app"}: false} {
		if got := o.Immutable(repo, "v1"); got != want {
			t.Errorf("%s:v1 immutable: %t, want %t", repo, got, want)
		}
	}
}

func TestRetentionMistakes(t *testing.T) {
	file := writeConfig(t, `uploads: {max_open: -1, upstream_bytes: 101%}
gc:
  grace: 1s
  pulled_after: 100ms
retention:
  - keep_last: -1
  - repositories: [app, "local/**x"]
    keep_tags: ["[", "v*"]
  - repositories: ["local/**"]
  - repositories: ["**", "*/app", "l*/**", "docker.io/**"]
    keep_last: 1
`)
	_, _, err := load(sources{File: file})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		":1: uploads.max_open: want a number", `:1: uploads.upstream_bytes: "101%" is not a share`,
		":3: gc.grace: want at least 1m", ":4: gc.pulled_after: want at least gc.grace",
		":6: retention[0].repositories: matches nothing", ":6: retention[0].keep_last",
		`:7: retention[1].repositories: "app" names no namespace; write local/app`, `:7: retention[1].repositories: "local/**x" is not a pattern`,
		`:8: retention[1].keep_tags: "[" is not a pattern`, ":9: retention[2]: says nothing",
		`:10: retention[3].repositories: "docker.io/**" matches no hosted namespace (local)`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	for _, right := range []string{`"**"`, `"*/app"`, `"l*/**"`} {
		if strings.Contains(err.Error(), right+" matches no") {
			t.Errorf("%s is refused:\n%v", right, err)
		}
	}
}

// TestRetentionThatFreesNothing: a rule that takes tags away and leaves all that they
// led to is doubted, whatever a rule behind it says.
func TestRetentionThatFreesNothing(t *testing.T) {
	file := writeConfig(t, `hosted: {local: {}, team: {}}
retention:
  - {repositories: ["local/a"], keep_last: 3}
  - {repositories: ["local/b"], keep_for: 24h}
  - {repositories: ["local/c"], keep_tags: [latest]}
  - {repositories: ["local/d"], keep_last: 3, untagged: 1h}
  - {repositories: ["local/**"], untagged: 168h}
`)
	_, doubts, err := load(sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(doubts, "\n")
	for i, want := range []bool{true, true, true, false, false} {
		line := fmt.Sprintf(":%d: retention[%d]: takes tags away and frees nothing", i+3, i)
		if got := strings.Contains(text, line); got != want {
			t.Errorf("doubted %t, want %t: %s in\n%s", got, want, line, text)
		}
	}
}
