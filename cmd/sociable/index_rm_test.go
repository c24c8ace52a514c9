package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sociable/sociable/web"
)

// TestIndexRmPattern withdraws what a pattern means of what is here, and says before
// which that would be.
func TestIndexRmPattern(t *testing.T) {
	s := newShelf(t)
	for i, name := range []string{"acme/app:1", "acme/app:v2", "acme/web:1", "other/web:1"} {
		s.push(t, name, uint64(i+1), "amd64")
	}
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/app:1", "up/acme/app:v2", "up/acme/web:1", "up/other/web:1", "--platform", "linux/amd64", "--data", srv.dir)
	list := func() []IndexInfo {
		return decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir))
	}
	await(t, "all are indexed", func() bool {
		return len(list()) == 4 && !slices.ContainsFunc(list(), func(x IndexInfo) bool { return x.Index == "" })
	})
	withdrawn := func() (names []string) {
		for _, x := range list() {
			if x.Withdrawn {
				names = append(names, x.Repository+":"+strings.Join(x.Tags, ","))
			}
		}
		return names
	}
	for pattern, want := range map[string]string{
		"up/acme/**":    "up/acme/app:1 up/acme/app:v2 up/acme/web:1",
		"up/acme/**:v*": "up/acme/app:v2",
		"up/*/web*:1":   "up/acme/web:1 up/other/web:1",
	} {
		out, errs, code := runSociable(t, "", "index", "rm", "--dry-run", pattern, "--data", srv.dir)
		got := strings.Join(strings.Split(strings.TrimSuffix(strings.ReplaceAll(out, " would be withdrawn", ""), "\n"), "\n"), " ")
		if got != want || code != 0 {
			t.Errorf("%s: exit %d, %q %s, want %q", pattern, code, got, errs, want)
		}
	}
	if got := withdrawn(); len(got) != 0 {
		t.Errorf("--dry-run withdrew %v", got)
	}
	for pattern, want := range map[string]struct {
		code int
		text string
	}{
		"**":           {exitUsage, "name the upstream in front"},
		"*/acme/app":   {exitUsage, "name the upstream in front"},
		"up/acme/**x":  {exitUsage, "is not a pattern"},
		"up/acme/*:%":  {exitUsage, "is not a pattern"},
		"up/nobody/**": {exitFailed, "no image here of which an index may be offered matches"},
	} {
		if _, errs, code := runSociable(t, "", "index", "rm", pattern, "--data", srv.dir); code != want.code || !strings.Contains(errs, want.text) {
			t.Errorf("%s: exit %d, %s; want %+v", pattern, code, errs, want)
		}
	}
	if _, errs, code := runSociable(t, "", "index", "rm", "--dry-run", "up/acme/app:1", "--data", srv.dir); code != exitUsage || !strings.Contains(errs, "--dry-run goes with a pattern") {
		t.Errorf("--dry-run of one image: exit %d, %s", code, errs)
	}
	done := decodeJSON[[]web.Withdrawn](t, must(t, "index", "rm", "up/acme/**", "--json", "--data", srv.dir))
	if len(done) != 3 || len(done[0].Indexes) == 0 || done[0].Reference != "up/acme/app:1" {
		t.Errorf("withdrawn: %+v", done)
	}
	if got := withdrawn(); len(got) != 3 {
		t.Errorf("withdrawn are %v", got)
	}
	if _, errs, code := runSociable(t, "", "index", "rm", "up/acme/**", "--data", srv.dir); code != exitFailed {
		t.Errorf("once more: exit %d, %s", code, errs)
	}
	must(t, "index", "rm", "up/other/*", "--data", srv.dir)
	must(t, "index", "create", "up/acme/web:1", "--platform", "linux/amd64", "--data", srv.dir)
	if got := withdrawn(); len(got) != 3 {
		t.Errorf("after index create withdrawn are %v", got)
	}
}
