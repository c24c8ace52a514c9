package indexer

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func parseRepo(t *testing.T, s string) oci.Repo {
	t.Helper()
	r, err := oci.ParseRepo(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPatterns(t *testing.T) {
	tests := []struct {
		pattern string
		matches []string
		not     []string
	}{
		{"**", []string{"docker.io/library/redis", "ghcr.io/a", "ghcr.io/a/b/c/d"}, nil},
		{"redis", []string{"docker.io/library/redis"}, []string{"docker.io/bitnami/redis", "quay.io/redis", "docker.io/library/redis/x"}},
		{"red*", []string{"docker.io/library/redis", "docker.io/library/red"}, []string{"docker.io/library/hired"}},
		{"*", []string{"docker.io/library/redis"}, []string{"docker.io/bitnami/redis", "quay.io/redis"}},
		{"docker.io/library/redis", []string{"docker.io/library/redis"}, []string{"docker.io/library/redis2", "docker.io/library"}},
		{"docker.io/library/*", []string{"docker.io/library/redis"}, []string{"docker.io/library", "docker.io/library/a/b"}},
		{"docker.io/**", []string{"docker.io/library/redis", "docker.io/x"}, []string{"ghcr.io/x", "docker.iox/y"}},
		{"**/redis", []string{"docker.io/library/redis", "quay.io/redis"}, []string{"quay.io/redis/x", "quay.io/xredis"}},
		{"ghcr.io/**/api", []string{"ghcr.io/api", "ghcr.io/a/api", "ghcr.io/a/b/api"}, []string{"ghcr.io/a/api/v1"}},
		{"ghcr.io/**/a/**/z", []string{"ghcr.io/a/z", "ghcr.io/a/a/z/z", "ghcr.io/x/a/y/z"}, []string{"ghcr.io/z/a"}},
		{"**/**/a", []string{"ghcr.io/a", "ghcr.io/x/y/a"}, []string{"ghcr.io/b"}},
		{"*.io/team-*-x/*", []string{"ghcr.io/team-a-x/b", "quay.io/team--x/b"}, []string{"ghcr.io/team-x/b", "ghcr.io/team-a-y/b", "ghcr.com/team-a-x/b"}},
		{"ghcr.io/a*b*c", []string{"ghcr.io/abc", "ghcr.io/axxbyyc", "ghcr.io/abcbc"}, []string{"ghcr.io/acb", "ghcr.io/abcd"}},
		{"ghcr.io/a*a", []string{"ghcr.io/aa", "ghcr.io/aba"}, []string{"ghcr.io/a"}},
		{"ghcr.io/a.b", []string{"ghcr.io/a.b"}, []string{"ghcr.io/axb"}},
		{"", nil, []string{"docker.io/library/redis", "ghcr.io/a"}},
		{"ghcr.io/", nil, []string{"ghcr.io/a"}},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			r := Rule{Repositories: []string{tt.pattern}}
			for _, s := range tt.matches {
				if !r.Matches(parseRepo(t, s), "") {
					t.Errorf("%q does not match %s", tt.pattern, s)
				}
			}
			for _, s := range tt.not {
				if r.Matches(parseRepo(t, s), "") {
					t.Errorf("%q matches %s", tt.pattern, s)
				}
			}
		})
	}
}

func TestFirstRuleWins(t *testing.T) {
	rules := []Rule{
		{Repositories: []string{"redis", "ghcr.io/**"}, Exclude: []string{"**/tmp-*", "**:*-debug"}},
		{Repositories: []string{"docker.io/**:v*"}},
		{Repositories: []string{"docker.io/**"}},
		{Repositories: []string{"**"}, Exclude: []string{"quay.io/**"}},
		{Repositories: []string{"quay.io/a:*"}, Exclude: []string{"quay.io/a:*"}},
		{Repositories: []string{"quay.io/b:*"}},
	}
	tests := []struct {
		names []string
		want  int
	}{
		{[]string{"docker.io/library/redis"}, 0},
		{[]string{"docker.io/library/redis:7"}, 0},
		{[]string{"docker.io/library/redis:7-debug"}, 2},
		{[]string{"docker.io/library/redis:7-debug", "docker.io/library/redis:7"}, 0},
		{[]string{"docker.io/library/nginx"}, 2},
		{[]string{"docker.io/library/nginx:v1"}, 1},
		{[]string{"docker.io/library/nginx:1", "docker.io/library/nginx:v1"}, 1},
		{[]string{"ghcr.io/a/tmp-b:v1"}, 3},
		{[]string{"quay.io/a:1"}, -1},
		{[]string{"quay.io/b"}, 5},
		{[]string{"quay.io/b:1"}, 5},
		{nil, -1},
		{[]string{"quay.io/c", "docker.io/library/nginx", "docker.io/library/redis"}, 0},
		{[]string{"docker.io/library/redis", "docker.io/library/nginx", "quay.io/c"}, 0},
	}
	for _, tt := range tests {
		var img storage.ImageRow
		for _, s := range tt.names {
			name, _, tagged := strings.Cut(s, ":")
			if repo := parseRepo(t, name); !slices.Contains(img.Repos, repo) {
				img.Repos = append(img.Repos, repo)
			}
			if tagged {
				img.Tags = append(img.Tags, s)
			}
		}
		img.Layers = decide(nil, "", []v1.Descriptor{{MediaType: v1.MediaTypeImageLayerGzip, Size: 1}})
		if got := choose(rules, &img); got != tt.want {
			t.Errorf("rule for %v is %d, want %d", tt.names, got, tt.want)
		}
	}
}
