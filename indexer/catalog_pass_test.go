package indexer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// brokenShop lists no tags of some repositories.
type brokenShop struct {
	shop
	broken []string
	works  atomic.Bool // all are listed
}

func (s *brokenShop) TagList(ctx context.Context, repo oci.Repo, last string) ([]string, bool, error) {
	if !s.works.Load() && slices.Contains(s.broken, repo.Name) {
		return nil, false, errors.New("500 Internal Server Error")
	}
	return s.shop.TagList(ctx, repo, last)
}

// TestCatalogPassesOver: a repository whose tags can't be listed keeps no other one
// from being gone through, and is a failed task in the end, or found when that mends.
func TestCatalogPassesOver(t *testing.T) {
	list := &digestList{}
	repos := map[string][]string{"a/a": {"1"}, "a/b": {"1"}, "a/c": {"1", "../z", ".x"}, "a/d": {"1"}, "z": {"1"}}
	for _, tc := range []struct {
		name, pattern string
		broken        []string
		mends         bool
		asked         string
		left          []string
	}{
		{"one", "a/*", []string{"a/b"}, false, "a/a:1 a/c:1 a/d:1", []string{"catalog a/b:*!"}},
		{"two", "**", []string{"a/a", "z"}, false, "a/b:1 a/c:1 a/d:1", []string{"catalog a/a:*!", "catalog z:*!"}},
		{"no other", "z*", []string{"z"}, false, "", []string{"catalog z:*!"}},
		{"by its name", "a/b", []string{"a/b"}, false, "", []string{"catalog a/b:*!"}},
		{"mended", "a/*", []string{"a/b"}, true, "a/a:1 a/b:1 a/c:1 a/d:1", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fetchLog{}
				f.asked.Store(list.reset())
				up := &brokenShop{shop: shop{repos, true}, broken: tc.broken}
				w := start(t, t.TempDir(), Options{Rules: []Rule{{Repositories: []string{"up/**"}}}, Fetch: f, List: up}, nil)
				_, err := w.x.Catalog(t.Context(), oci.Repo{Upstream: "up", Name: tc.pattern}, "*", nil)
				w.check("catalog", err)
				time.Sleep(time.Minute)
				w.settle()
				if got := list.sorted(); !tc.mends && got != tc.asked {
					t.Errorf("asked for %q within a minute, want %q", got, tc.asked)
				}
				up.works.Store(tc.mends)
				time.Sleep(24 * time.Hour)
				w.settle()
				if got := list.sorted(); got != tc.asked {
					t.Errorf("asked for %q, want %q", got, tc.asked)
				}
				catalogs := slices.DeleteFunc(w.tasks(), func(s string) bool { return !strings.HasPrefix(s, "catalog") })
				if !slices.Equal(catalogs, tc.left) {
					t.Errorf("left: %q, want %q", catalogs, tc.left)
				}
			})
		})
	}
}
