package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sociable/sociable/web"
)

// TestPublishBesideAnother: two that make other indexes of one image do not take them
// from each other; the second says what is in its way, in words that an operator can
// act on.
func TestPublishBesideAnother(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1.0", 1, "amd64")
	serve := func(spanSize string) *server {
		text := strings.Replace(string(readFile(t, s.config)), "span_size: 64KiB", "span_size: "+spanSize+", publish: v1, publish_upstream: true", 1)
		file := filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		srv := startServer(t, "--config", file)
		must(t, "warm", "up/acme/app:1.0", "--platform", "linux/amd64", "--data", srv.dir)
		return srv
	}
	info := func(srv *server) IndexInfo {
		return decodeJSON[IndexInfo](t, must(t, "index", "info", "up/acme/app:1.0", "--json", "--data", srv.dir))
	}
	isPublished := func(srv *server) func() bool {
		return func() bool {
			x := info(srv)
			return slices.ContainsFunc(x.Published, func(p web.Published) bool { return p.Index == x.Index && p.Listed != "" })
		}
	}
	one := serve("64KiB")
	await(t, "the first has published", isPublished(one))
	theirs := info(one)
	two := serve("128KiB")
	var jobs []web.Job
	await(t, "the second has said why not", func() bool {
		jobs = decodeJSON[[]web.Job](t, must(t, "jobs", "list", "--json", "--data", two.dir))
		return len(jobs) == 1 && jobs[0].State == web.JobFailed
	})
	if want := "the upstream has " + theirs.Index.String() + ", made by sociable or soci, but not here: delete it there and have this tried again, or push v2 alone"; !strings.HasSuffix(jobs[0].Error, want) {
		t.Errorf("the job says %q, want %q", jobs[0].Error, want)
	}
	if out := must(t, "index", "info", "up/acme/app:1.0", "--data", two.dir); !strings.Contains(out, "which has "+shortDigest(theirs.Index)+", made by sociable or soci, but not here: sociable jobs list says what to do") {
		t.Errorf("index info:\n%s", out)
	}
	refs := s.ref(t, "acme/app").Context()
	list, err := remote.Referrers(refs.Digest(theirs.Manifest.String()))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := list.IndexManifest(); err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != theirs.Index.String() {
		t.Errorf("the upstream lists %+v, %v, want %s", m, err, theirs.Index)
	}
	if err := remote.Delete(refs.Digest(theirs.Index.String())); err != nil {
		t.Fatal(err)
	}
	must(t, "jobs", "retry", "--failed", "--data", two.dir)
	await(t, "the second has published", isPublished(two))
}
