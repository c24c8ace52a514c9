package indexer

import (
	"testing"

	"github.com/sociable/sociable/internal/oci"
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
				if !r.Matches(parseRepo(t, s)) {
					t.Errorf("%q does not match %s", tt.pattern, s)
				}
			}
			for _, s := range tt.not {
				if r.Matches(parseRepo(t, s)) {
					t.Errorf("%q matches %s", tt.pattern, s)
				}
			}
		})
	}
}

func TestFirstRuleWins(t *testing.T) {
	rules := []Rule{
		{Repositories: []string{"redis", "ghcr.io/**"}, Exclude: []string{"**/tmp-*"}, SpanSize: 1},
		{Repositories: []string{"docker.io/**"}, SpanSize: 2},
		{Repositories: []string{"**"}, Exclude: []string{"quay.io/**"}, SpanSize: 3},
	}
	tests := []struct {
		repos []string
		want  int64 // the rule's span size; 0: none
	}{
		{[]string{"docker.io/library/redis"}, 1},
		{[]string{"docker.io/library/nginx"}, 2},
		{[]string{"ghcr.io/a/tmp-b"}, 3},
		{[]string{"quay.io/a"}, 0},
		{nil, 0},
		{[]string{"quay.io/a", "docker.io/library/nginx", "docker.io/library/redis"}, 2},
	}
	for _, tt := range tests {
		var repos []oci.Repo
		for _, s := range tt.repos {
			repos = append(repos, parseRepo(t, s))
		}
		var got int64
		if r := ruleFor(rules, repos); r != nil {
			got = r.SpanSize
		}
		if got != tt.want {
			t.Errorf("rule for %v is %d, want %d", tt.repos, got, tt.want)
		}
	}
}

// FuzzPattern: matching ends, and a name matches itself and what it begins with.
func FuzzPattern(f *testing.F) {
	f.Add("docker.io/**/a*b", "docker.io/library/ab")
	f.Add("**/**/**/**/**/x", "a/b/c/d/e/f")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		repo := oci.Repo{Upstream: "up", Name: name}
		r := Rule{Repositories: []string{pattern}}
		r.Matches(repo)
		if !(&Rule{Repositories: []string{"up/**"}}).Matches(repo) {
			t.Errorf("up/** does not match %s", repo)
		}
	})
}
