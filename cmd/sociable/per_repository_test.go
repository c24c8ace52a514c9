package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestRulesAreOfRepositories: one manifest in three repositories is offered as the
// rule of each says, whichever was pulled first; index create without sizes is by
// the rule, and index rm takes it from one repository, also what was pushed to its
// upstream; explain says all of it.
func TestRulesAreOfRepositories(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/app:1", 1, "amd64")
	for _, name := range []string{"acme/hidden:1", "acme/own:1"} {
		if err := remote.WriteIndex(s.ref(t, name), idx); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(string(readFile(t, s.config)), `rules: [{`, `rules: [{repositories: ["up/acme/hidden"], publish: none, span_size: 128KiB, min_layer_size: 10000}, {publish_upstream: true, `, 1)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/hidden:1", "--platform", "linux/amd64", "--data", srv.dir)
	must(t, "warm", "up/acme/app:1", "up/acme/own:1", "--platform", "linux/amd64", "--data", srv.dir)
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image := m.Manifests[0].Digest.String()
	lists := func(name string) (ds []digest.Digest) {
		t.Helper()
		resp, err := http.Get("http://" + srv.addr + "/v2/up/" + name + "/referrers/" + image + "?artifactType=" + url.QueryEscape(oci.MediaTypeSOCIIndexV1))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range decodeJSON[v1.Index](t, string(body)).Manifests {
			ds = append(ds, d.Digest)
		}
		return ds
	}
	explain := func(name string, want ...string) {
		t.Helper()
		out := must(t, "config", "explain", "up/acme/"+name+":1", "--config", s.config, "--data", srv.dir, "--offline")
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("config explain of %s: no %q in\n%s", name, w, out)
			}
		}
	}
	pushed := func(name string) bool {
		refs, err := remote.Referrers(s.ref(t, "acme/"+name).Context().Digest(image))
		if err != nil {
			t.Fatal(err)
		}
		list, err := refs.IndexManifest()
		return err == nil && len(list.Manifests) > 0
	}
	tag := func(name string) int {
		resp, err := http.Get("http://" + srv.addr + "/v2/up/acme/" + name + "/manifests/1-soci")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	await(t, "both are at the upstream", func() bool {
		_, err := remote.Head(s.ref(t, "acme/own:1-soci"))
		return pushed("app") && pushed("own") && err == nil
	})
	if len(lists("acme/app")) != 1 || len(lists("acme/own")) != 1 || len(lists("acme/hidden")) != 0 {
		t.Errorf("listed: %v, %v, and where nothing is published: %v", lists("acme/app"), lists("acme/own"), lists("acme/hidden"))
	}
	explain("app", "index.rules[1]", "spans of 64KiB", "by the referrers API", "v2, at 1-soci")
	explain("hidden", "index.rules[0]", "layers are indexed once, by index.rules[1]", "spans of 64KiB")

	all := must(t, "index", "list", "--all", "--data", srv.dir)
	for _, want := range []string{`(?m)^up/acme/hidden +\S+ +not offered +`, `(?m)^up/acme/app +\S+ +sha256:\S+ .* v1`, `(?m)^up/acme/own +\S+ +sha256:\S+ .* v1`} {
		if !regexp.MustCompile(want).MatchString(all) {
			t.Errorf("index list --all: no %s in\n%s", want, all)
		}
	}
	if out := must(t, "index", "info", "up/acme/hidden:1", "--data", srv.dir); !strings.Contains(out, notOfferedText) {
		t.Errorf("index info:\n%s", out)
	}

	was := lists("acme/app")[0]
	create := func(args ...string) {
		t.Helper()
		must(t, append([]string{"index", "create", "up/acme/app:1", "--platform", "linux/amd64", "--data", srv.dir}, args...)...)
	}
	create()
	if got := lists("acme/app"); len(got) != 1 || got[0] != was {
		t.Errorf("index create by the rule lists %v, before it was %s", got, was)
	}
	create("--span-size", "32KiB")
	if got := lists("acme/app"); len(got) != 1 || got[0] == was {
		t.Errorf("index create --span-size lists %v", got)
	}
	explain("app", "asked for with sociable index create", "spans of 32KiB", "without sizes drops them")
	create()
	if got := lists("acme/app"); len(got) != 1 || got[0] != was {
		t.Errorf("index create without sizes lists %v, want %s", got, was)
	}

	out := must(t, "index", "rm", "up/acme/own:1", "--data", srv.dir)
	if !strings.Contains(out, "still offered where a rule says so: up/acme/app") {
		t.Errorf("index rm: %s", out)
	}
	if got := lists("acme/own"); len(got) != 0 {
		t.Errorf("index rm leaves %v listed", got)
	}
	if got := tag("own"); got != http.StatusNotFound {
		t.Errorf("index rm leaves 1-soci: %d", got)
	}
	if len(lists("acme/app")) != 1 || tag("app") != http.StatusOK {
		t.Error("index rm of one repository took it from another")
	}
	explain("own", "withdrawn with sociable index rm")
	must(t, "index", "create", "up/acme/own:1", "--platform", "linux/amd64", "--data", srv.dir)
	if got := lists("acme/own"); len(got) != 1 {
		t.Errorf("asked for again it lists %v", got)
	}

	if out := must(t, "index", "info", "up/acme/own:1", "--data", srv.dir); !strings.HasPrefix(out, "repository  up/acme/own\n") {
		t.Errorf("index info begins with another repository:\n%s", out)
	}
	out, errs, code := runSociable(t, "", "index", "create", "up/acme/own:1", "--platform", "linux/amd64", "--min-layer-size", "1GiB", "--data", srv.dir)
	if code != 1 || !strings.Contains(errs, "has a zTOC") || !strings.HasPrefix(out, "repository  up/acme/own\n") {
		t.Errorf("index create of no layer: exit %d, %s\n%s", code, errs, out)
	}
	for _, want := range []string{"v1 no longer offered in up/acme/own: ", "v1 no longer offered in up/acme/app: ", "stays at the upstream: v1 "} {
		if !strings.Contains(out, want) {
			t.Errorf("index create of no layer: no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "offered in up/acme/hidden") || len(lists("acme/hidden")) != 0 {
		t.Errorf("where none was offered none is lost:\n%s", out)
	}
}
