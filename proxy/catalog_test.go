package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func TestListsInPages(t *testing.T) {
	s := newHost(t, Hosting{}, func(o *Options) {
		o.Access = accessFunc(func(_ *http.Request, repo oci.Repo, _ oci.Action) error {
			if repo.Name == "secret" {
				return oci.NewError(errcode.ErrorCodeDenied, "not you")
			}
			return nil
		})
	})
	m := s.pushImage(t, "local/b", "t0", random(10, 1))
	repo := oci.Repo{Upstream: "local", Name: "b"}
	err := s.store.Update(t.Context(), func(tx storage.Tx) error {
		for i := range 25 {
			if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: fmt.Sprintf("t%d", i), Digest: m}); err != nil {
				return err
			}
		}
		for _, name := range []string{"local/a", "local/a/b", "local/a-b", "other/a", "other/z"} {
			r, _ := oci.ParseRepo(name)
			if err := tx.PutContent(storage.ContentRow{Repo: r, Digest: m, Size: 1, Manifest: true}); err != nil {
				return err
			}
		}
		return tx.PutContent(storage.ContentRow{Repo: oci.Repo{Upstream: "local", Name: "secret"}, Digest: m, Size: 1, Manifest: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/v2/local/b/tags/list": 25, "/v2/_catalog": 6} {
		for _, n := range []int{1, 2, 6, 7, 100} {
			var all []string
			for next := fmt.Sprintf("%s?n=%d", path, n); next != ""; {
				a := s.do(t, http.MethodGet, next)
				var doc struct{ Tags, Repositories []string }
				if err := json.Unmarshal(a.body, &doc); err != nil || a.status != http.StatusOK {
					t.Fatalf("%s: %d %s", next, a.status, a.body)
				}
				got := append(doc.Tags, doc.Repositories...)
				if len(got) > n {
					t.Errorf("%s: %d entries", next, len(got))
				}
				all = append(all, got...)
				link := a.header.Get("Link")
				if next, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">"); next != "" && !strings.HasSuffix(link, `>; rel="next"`) {
					t.Errorf("Link %q", link)
				}
			}
			if path != "/v2/_catalog" && !slices.IsSorted(all) || len(all) != want || len(slices.Compact(slices.Clone(all))) != want {
				t.Errorf("%s by %d: %v, want %d", path, n, all, want)
			}
		}
		wantCode(t, path, s.do(t, http.MethodGet, path+"?n=x"), http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
		wantCode(t, path, s.do(t, http.MethodGet, path+"?last=%00"), http.StatusBadRequest, "NAME_INVALID")
		if a := s.do(t, http.MethodGet, path+"?n=0"); a.status != http.StatusOK || !bytes.Contains(a.body, []byte(`[]`)) {
			t.Errorf("%s?n=0: %d %s", path, a.status, a.body)
		}
	}
	if a := s.do(t, http.MethodGet, "/v2/_catalog"); string(a.body) != `{"repositories":["local/a","local/a-b","local/a/b","local/b","other/a","other/z"]}` {
		t.Errorf("catalog: %s", a.body)
	}
}
