package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestCatalog(t *testing.T) {
	all := []string{"a", "b/c", "d"}
	paged := func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		from := 0
		if last := q.Get("last"); last != "" {
			from = slices.Index(all, last) + 1
		}
		end := min(from+2, len(all))
		if end < len(all) {
			w.Header().Set("Link", fmt.Sprintf("</v2/_catalog?last=%s&n=2>; rel=\"next\"", all[end-1]))
		}
		fmt.Fprintf(w, `{"repositories": ["%s"]}`, strings.Join(all[from:end], `","`))
	}
	whole := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"repositories": ["a", "b/c", "Not A Name", "d"]}`)
	}
	for _, tc := range []struct {
		name    string
		answer  http.HandlerFunc
		last    string
		want    []string
		more    bool
		missing bool
	}{
		{"first page", paged, "", []string{"a", "b/c"}, true, false},
		{"last page", paged, "b/c", []string{"d"}, false, false},
		{"all at once", whole, "", all, false, false},
		{"all at once, further on", whole, "a", []string{"b/c", "d"}, false, false},
		{"none", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "", nil, false, true},
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "", nil, false, true},
		{"not a list", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "", nil, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRegistry(t)
			g.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v2/_catalog" {
					return false
				}
				tc.answer(w, r)
				return true
			}
			c := newClient(t, g.URL)
			names, more, err := c.Catalog(t.Context(), 2, tc.last)
			if !slices.Equal(names, tc.want) || more != tc.more || errors.Is(err, ErrNoCatalog) != tc.missing || (err == nil) != (tc.want != nil) {
				t.Errorf("%q, %v, %v", names, more, err)
			}
		})
	}
}
