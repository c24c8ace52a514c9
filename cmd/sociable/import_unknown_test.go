package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
)

// TestImportUnknown: what a private upstream, or a namespace of the other side's,
// has is never filed under the default upstream.
func TestImportUnknown(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	dir := t.TempDir()
	file, hosted := filepath.Join(dir, "b.tar"), filepath.Join(dir, "hosted.tar")
	from := startServer(t, "--config", s.config)
	if err := crane.Copy(strings.TrimPrefix(s.URL, "http://")+"/acme/app:1", from.addr+"/local/secret:1"); err != nil {
		t.Fatal(err)
	}
	must(t, "export", "up/acme/app:1", "-p", "linux/amd64", "-o", file, "--data", from.dir)
	must(t, "export", "local/secret:1", "up/acme/app:1", "-p", "linux/amd64", "-o", hosted, "--data", from.dir)

	live := startServer(t, "--upstream", "docker.io=http://127.0.0.1:9") // has docker.io as its default, and hosts local
	for name, tt := range map[string]struct {
		file string
		to   []string
	}{
		"without a server": {file, []string{"--data", filepath.Join(dir, "alone")}},
		"a server":         {file, []string{"--data", live.dir}},
		"one of two":       {hosted, []string{"--data", live.dir}},
	} {
		_, errs, code := runSociable(t, "", append([]string{"import", tt.file}, tt.to...)...)
		if code != 1 || !strings.Contains(errs, "it has images of up, for which no upstream and no hosted namespace is configured here; nothing was taken") {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
		if out := must(t, append([]string{"pins", "--json"}, tt.to[:2]...)...); strings.TrimSpace(out) != "[]" {
			t.Errorf("%s: pins %s", name, out)
		}
		if out := must(t, append([]string{"index", "list", "--all", "--json"}, tt.to[:2]...)...); strings.Contains(out, "secret") || strings.Contains(out, "app") {
			t.Errorf("%s: images %s", name, out)
		}
	}
}
