package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sociable/sociable/web"
)

// TestPublishUpstream: what is made is at the upstream, found there by its own
// API, and told of; a tag of somebody else's stays; nothing of it is indexed or
// converted again.
func TestPublishUpstream(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1.0", 1, "amd64")
	s.push(t, "acme/app:2.0", 2, "amd64")
	if err := remote.WriteIndex(s.ref(t, "acme/app:2.0-soci"), empty.Index); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(readFile(t, s.config)), "span_size: 64KiB", "span_size: 64KiB, publish_upstream: true", 1)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/app:1.0", "up/acme/app:2.0", "--platform", "linux/amd64", "--data", srv.dir)
	var list []IndexInfo
	await(t, "all is published", func() bool {
		list = decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir))
		return !slices.ContainsFunc(list, func(x IndexInfo) bool {
			return len(x.Published) < 2 || slices.ContainsFunc(x.Published, func(p web.Published) bool { return p.Begun })
		}) &&
			len(decodeJSON[[]web.Job](t, must(t, "jobs", "list", "--json", "--data", srv.dir))) == 0
	})
	if len(list) != 2 {
		t.Fatalf("%d images, want 2: what was pushed was indexed again: %+v", len(list), list)
	}
	for _, x := range list {
		refs, err := remote.Referrers(s.ref(t, "acme/app").Context().Digest(x.Manifest.String()))
		if err != nil {
			t.Fatal(err)
		}
		m, err := refs.IndexManifest()
		if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != x.Index.String() {
			t.Errorf("the upstream lists %+v, want %s", m, x.Index)
		}
		tag := x.Tags[0] + "-soci"
		for _, p := range x.Published {
			switch {
			case p.Form == "v1" && p.Listed == web.ListedByAPI:
			case p.Form == "v2" && x.Tags[0] == "1.0" && slices.Equal(p.Tags, []string{tag}):
				got, err := remote.Head(s.ref(t, "acme/app:"+tag))
				if err != nil || got.Digest.String() != p.Index.String() {
					t.Errorf("%s leads to %+v, %v, want %s", tag, got, err, p.Index)
				}
			case p.Form == "v2" && x.Tags[0] == "2.0" && slices.Equal(p.Taken, []string{tag}):
				want, _ := empty.Index.Digest()
				got, err := remote.Head(s.ref(t, "acme/app:"+tag))
				if err != nil || got.Digest != want {
					t.Errorf("%s leads to %+v, %v, want %s", tag, got, err, want)
				}
			default:
				t.Errorf("published %+v", p)
			}
		}
	}
	// The tag that we made ourselves is pulled like any other, here and there, and
	// once more nothing comes of it.
	must(t, "warm", "up/acme/app:1.0-soci", "--platform", "linux/amd64", "--data", srv.dir)
	if again := decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--all", "--data", srv.dir)); len(again) != 2 {
		t.Errorf("%d images after the converted one was pulled", len(again))
	}
	out := must(t, "index", "info", "up/acme/app:1.0", "--data", srv.dir)
	for _, want := range []string{"found by the referrers API", "at 1.0-soci"} {
		if !strings.Contains(out, want) {
			t.Errorf("index info: no %q in\n%s", want, out)
		}
	}
	if out := must(t, "index", "list", "--all", "--data", srv.dir); strings.Count(out, "v1,v2")+strings.Count(out, "v1\n") != 2 {
		t.Errorf("index list --all:\n%s", out)
	}
	out = must(t, "index", "rm", "up/acme/app:1.0", "--data", srv.dir)
	if strings.Count(out, "stays at the upstream") != 2 {
		t.Errorf("index rm: %s", out)
	}
}
