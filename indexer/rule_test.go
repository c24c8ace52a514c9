package indexer

import (
	"slices"
	"strings"
	"testing"

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
		{[]string{"quay.io/c", "docker.io/library/nginx", "docker.io/library/redis"}, 2},
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
		if got := ruleFor(rules, namesOf(&img)); got != tt.want {
			t.Errorf("rule for %v is %d, want %d", tt.names, got, tt.want)
		}
	}
}
