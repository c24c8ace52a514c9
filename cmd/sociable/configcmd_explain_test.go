package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// TestExplainFromUpstream: what no store knows is asked for, signatures, too.
func TestExplainFromUpstream(t *testing.T) {
	const gzip = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":%d,"digest":"sha256:%064d"}`
	image := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageManifest + `","config":{"mediaType":"` + v1.MediaTypeImageConfig +
		`","size":2,"digest":"` + digest.FromString("{}").String() + `"},"layers":[` + fmt.Sprintf(gzip, 20<<20, 1) + `,` + fmt.Sprintf(gzip, 5, 2) + `]}`
	index := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[
		{"mediaType":"` + v1.MediaTypeImageManifest + `","digest":"` + digest.FromString(image).String() + `","size":1,"platform":{"os":"linux","architecture":"amd64"}},
		{"mediaType":"` + v1.MediaTypeImageManifest + `","digest":"` + digest.FromString("gone").String() + `","size":1,"platform":{"os":"linux","architecture":"s390x"}}]}`
	docs := map[string]string{"1": index, digest.FromString(image).String(): image}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc, ok := docs[strings.TrimPrefix(r.URL.Path, "/v2/a/b/manifests/")]
		if !ok {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", map[bool]string{true: v1.MediaTypeImageIndex, false: v1.MediaTypeImageManifest}[doc == index])
		fmt.Fprint(w, doc)
	}))
	defer up.Close()
	cfg := Default()
	cfg.Storage.Path = t.TempDir()
	cfg.Upstreams["lab"] = defaultUpstream("lab")
	cfg.Upstreams["lab"].URL = up.URL
	cfg.Index.Rules[0].Platforms = []string{"linux/amd64"}
	explain := func() *Explanation {
		t.Helper()
		x, err := (&explainer{cfg: cfg, known: nothingKnown}).explain(t.Context(), "lab/a/b:1")
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	x := explain()
	if x.Source != "the upstream" || x.Reference != "lab/a/b:1" || x.Rule != 0 || x.Signed != "no" || len(x.Images) != 2 {
		t.Errorf("%+v", x)
	}
	if l := x.Images[0].Layers; len(l) != 2 || !l[0].Indexed || l[1].Indexed || !strings.HasPrefix(l[1].Reason, "too-small") {
		t.Errorf("layers %+v", l)
	}
	if x.Images[1].Note == "" {
		t.Errorf("a manifest that is not to be had: %+v", x.Images[1])
	}
	docs["sha256-"+digest.FromString(index).Encoded()+".sig"] = image
	if x = explain(); !strings.HasPrefix(x.Signed, "by cosign, at the tag sha256-") {
		t.Errorf("signed: %s", x.Signed)
	}
	if x.Publish != "v1, a referrer of each platform's manifest; v2, at 1-soci" || len(x.Warnings) != 1 || !strings.Contains(x.Warnings[0], "no signature") {
		t.Errorf("publish %q, warnings %q", x.Publish, x.Warnings)
	}
	docs["1-soci"] = image
	if x = explain(); !strings.HasSuffix(x.Publish, "; no v2, as the upstream has the tag for something else") || len(x.Warnings) == 0 || !strings.Contains(x.Warnings[0], "lab/a/b:1-soci is the upstream's own") {
		t.Errorf("publish %q, warnings %q", x.Publish, x.Warnings)
	}
}

// TestExplainReadsNamesAsTheProxyDoes takes every spelling that pin or purge take.
func TestExplainReadsNamesAsTheProxyDoes(t *testing.T) {
	cfg := Default()
	cfg.Upstreams["lab.test"] = defaultUpstream("lab.test")
	cfg.Upstreams["lab.test"].Aliases = []string{"lab"}
	cfg.Upstreams["lab.test"].Hosts = []string{"mirror.test"}
	for word, want := range map[string]string{
		"redis":                      "docker.io/library/redis:latest",
		"docker://redis:7":           "docker.io/library/redis:7",
		"acme/app:1":                 "docker.io/acme/app:1",
		"lab/a/b:1":                  "lab.test/a/b:1",
		"lab.test/a/b:1":             "lab.test/a/b:1",
		"mirror.test/a/b:1":          "lab.test/a/b:1",
		"proxy.example:5000/lab/a:1": "lab.test/a:1",
		"local/app":                  "local/app:latest",
		"lab/a:1@" + digest.Canonical.FromString("x").String(): "lab.test/a:" + digest.Canonical.FromString("x").String(),
		"proxy.example:5000/other/a:1":                         "no upstream",
		"other.test/a:1":                                       "no upstream",
		"lab/a:%":                                              "invalid tag",
		"lab/A:1":                                              "name",
	} {
		repo, ref, err := (&explainer{cfg: cfg}).name(word)
		if got := repo.String() + ":" + ref.String(); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %s, %v; want %s", word, got, err, want)
		}
	}
}

func nothingKnown(context.Context, string) (web.Facts, error) {
	return web.Facts{}, storage.ErrNotFound
}

// TestExplainRunning: beside a running server its configuration and its upstreams
// count, whether or not it has the image.
func TestExplainRunning(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	srv := startServer(t, "--config", s.config)
	explain := func() Explanation {
		t.Helper()
		return decodeJSON[Explanation](t, must(t, "config", "explain", "up/acme/app:1", "--data", srv.dir, "--json"))
	}
	x := explain()
	if x.Config != "the running server's" || x.Source != "the upstream" || x.RuleAt == "-" || x.Signed != "no" || len(x.Images) != 2 {
		t.Errorf("of the upstream: %+v", x)
	}
	must(t, "warm", "up/acme/app:1", "-p", "linux/amd64", "--data", srv.dir)
	one := x.Images[0].Digest.String()
	if x = explain(); x.Source != "the store" || x.Images[0].Platform != "linux/amd64" {
		t.Errorf("of the store: %+v", x)
	}
	// By its digest alone no index names its platform: the image itself does.
	if out := must(t, "config", "explain", "up/acme/app@"+one, "--data", srv.dir); !strings.Contains(out, "\nlinux/amd64  "+one) {
		t.Errorf("by digest:\n%s", out)
	}
	out, errs, code := runSociable(t, "", "config", "explain", "elsewhere.example/a:1", "--data", srv.dir)
	if code != exitFailed || !strings.Contains(errs, "no upstream") {
		t.Errorf("of no upstream: %d %s%s", code, out, errs)
	}
	if x = decodeJSON[Explanation](t, must(t, "config", "explain", "-c", s.config, "up/acme/app:1", "--data", srv.dir, "--json")); x.Config != s.config {
		t.Errorf("by a file: %+v", x)
	}
	s.Close()
	if out := must(t, "config", "explain", "up/acme/app:1", "--offline", "--data", srv.dir); !strings.Contains(out, "not known: the upstream was not asked") {
		t.Errorf("offline:\n%s", out)
	}
}

// TestPlatformOfOne: of an image that no index names its own config says what it is
// for, at the upstream and in the store.
func TestPlatformOfOne(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/two:1", 9, "arm64")
	list, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	one := list.Manifests[0].Digest
	img, err := idx.Image(one)
	if err == nil {
		err = remote.Write(s.ref(t, "acme/one:1"), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	for _, from := range []string{"the upstream", "the store"} {
		x := decodeJSON[Explanation](t, must(t, "config", "explain", "up/acme/one:1", "--data", srv.dir, "--json"))
		if x.Source != from || len(x.Images) != 1 || x.Images[0].Platform != "linux/arm64" {
			t.Errorf("%s: %+v", from, x)
		}
		got := decodeJSON[warmAnswer](t, must(t, "warm", "up/acme/one:1", "--data", srv.dir, "--json"))
		if p := got.Images[0].Platforms; len(p) != 1 || p[0] != "linux/arm64" {
			t.Errorf("warm: %v", p)
		}
	}
}
