package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
)

// TestServeHostingAlone runs a registry without an upstream: what is pushed is pulled
// and indexed, and no command or page looks for one.
func TestServeHostingAlone(t *testing.T) {
	from := newShelf(t)
	from.push(t, "acme/app:1", 1, "amd64")
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	putFile(t, config, "upstreams: {}\nhosted: {lab: {}}\nindex: {rules: [{repositories: ['lab/**'], min_layer_size: 1KiB}]}\n")
	must(t, "config", "check", config)
	srv := startServer(t, "--config", config)
	if err := crane.Copy(strings.TrimPrefix(from.URL, "http://")+"/acme/app:1", srv.addr+"/lab/app:1"); err != nil {
		t.Fatal(err)
	}
	pullFrom(t, srv.addr, "lab/app:1", nil)
	must(t, "index", "create", "lab/app:1", "--data", srv.dir)
	for _, args := range [][]string{
		{"healthcheck", "--data", srv.dir}, {"doctor", srv.addr + "/lab/app:1"}, {"config", "explain", "lab/app:1", "--data", srv.dir},
		{"index", "list", "--data", srv.dir}, {"stats", "--data", srv.dir}, {"config", "show", "-c", config},
	} {
		if out, stderr, code := runSociable(t, "", args...); code != 0 {
			t.Errorf("%s: exit %d\n%s\n%s", strings.Join(args, " "), code, out, stderr)
		}
	}
	if _, stderr, code := runSociable(t, "", "config", "explain", "redis:7", "--data", srv.dir); code != 1 || !strings.Contains(stderr, `"redis" names no upstream, and there is no default upstream`) {
		t.Errorf("a name of no upstream: exit %d, %s", code, stderr)
	}
}
