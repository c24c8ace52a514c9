package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
)

// TestImportHosted restores what was pushed from its backup: into a store that
// hosts it as the first one did.
func TestImportHosted(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	dir := t.TempDir()
	file, to := filepath.Join(dir, "b.tar"), filepath.Join(dir, "to")
	from := startServer(t, "--config", s.config)
	if err := crane.Copy(strings.TrimPrefix(s.URL, "http://")+"/acme/app:1", from.addr+"/local/app:1"); err != nil {
		t.Fatal(err)
	}
	must(t, "export", "local/app:1", "-p", "linux/amd64", "-o", file, "--data", from.dir)

	config := filepath.Join(dir, "config.yml")
	text := string(readFile(t, deadConfig(t))) + "hosted: {local: {quota: 100MiB, immutable: [\"**:1\"]}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", config, "--data", to)
	must(t, "import", "--no-pin", file, "--data", to)
	pullFrom(t, srv.addr, "local/app:1", nil)
	d, err := crane.Digest(srv.addr + "/local/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := crane.Catalog(srv.addr); err != nil || strings.Join(list, " ") != "local/app" {
		t.Errorf("catalog: %v, %v", list, err)
	}
	if list, err := crane.ListTags(srv.addr + "/local/app"); err != nil || strings.Join(list, " ") != "1" {
		t.Errorf("tags: %v, %v", list, err)
	}
	if err := crane.Delete(srv.addr + "/local/app:1"); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("an immutable tag was deleted: %v", err)
	}
	must(t, "gc", "--grace", "0s", "--data", to)
	pullFrom(t, srv.addr, "local/app:1", nil)
	must(t, "import", "--no-pin", file, "--data", to) // once more

	other := strings.ReplaceAll(text, "100MiB", "1KiB")
	if err := os.WriteFile(config, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	full := startServer(t, "--config", config)
	if out, _, code := runSociable(t, "", "import", file, "--data", full.dir); code != 1 || !strings.Contains(out, "quota of local") {
		t.Errorf("over the quota: exit %d, %s", code, out)
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, ", immutable: [\"**:1\"]", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	free := startServer(t, "--config", config)
	must(t, "import", "--no-pin", file, "--data", free.dir)
	if err := crane.Delete(free.addr + "/local/app@" + d); err != nil {
		t.Errorf("delete: %v", err)
	}
	resp, err := http.Get("http://" + free.addr + "/v2/local/app/manifests/1")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("after its deletion: %s", resp.Status)
	}
}
