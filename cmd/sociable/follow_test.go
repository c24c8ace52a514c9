package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPrewarm has a server follow images that nobody asks for.
func TestPrewarm(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1.0", 1, "amd64", "arm64")
	s.push(t, "acme/app:1.1", 3, "amd64")
	s.push(t, "acme/app:2.0", 5, "amd64")
	config := readFile(t, s.config)
	config = append(config, "prewarm: {jobs: [{images: [\"up/acme/app:1.*\"], platforms: [linux/amd64], schedule: \"@every 24h\"}]}\n"...)
	if err := os.WriteFile(s.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for done := false; !done; {
		list := decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir))
		done = len(list) == 2
		for _, x := range list {
			done = done && x.Index != ""
		}
		if ctx.Err() != nil {
			t.Fatalf("never here: %+v", list)
		}
	}
}

// TestMissing asks an offline server for what it has not, and brings it.
func TestMissing(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	dir := t.TempDir()
	from, to, file, list := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "b.tar"), filepath.Join(dir, "images.txt")
	srv := startServer(t, "--config", deadConfig(t), "--data", to)
	resp, err := http.Get("http://" + srv.addr + "/v2/up/acme/app/manifests/1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("offline: %s", resp.Status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out string
	for out == "" && ctx.Err() == nil { // it is written behind the answer
		out = must(t, "missing", "--data", to)
	}
	if !strings.HasPrefix(out, "up/acme/app:1 # asked for 1 time, last ") {
		t.Fatalf("missing says %q", out)
	}
	if err := os.WriteFile(list, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	got := decodeJSON[[]map[string]any](t, must(t, "missing", "--json", "--data", to))
	if len(got) != 1 || got[0]["repository"] != "up/acme/app" || got[0]["reference"] != "1" || got[0]["asked"] != 1.0 || fmt.Sprint(got[0]["images"]) != "[up/acme/app:1]" {
		t.Errorf("as JSON: %v", got)
	}
	if err := os.WriteFile(list, []byte("up/acme/none:1\n"+out), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"export", "-f", list, "-p", "linux/amd64", "-o", file, "--data", from, "--config", s.config}
	if _, errs, code := runSociable(t, "", args...); code != 1 || !strings.Contains(errs, "nothing was written: 1 of 2 images failed; --keep-going writes the others") {
		t.Errorf("one that is not there: exit %d, %s", code, errs)
	}
	said, errs, code := runSociable(t, "", append(args, "--keep-going")...)
	if code != 1 || !strings.Contains(said, "not in it: up/acme/none:1: ") || !strings.Contains(errs, "1 of 2 images failed") {
		t.Errorf("with --keep-going: exit %d, %s%s", code, said, errs)
	}
	must(t, "import", file, "--data", to)
	if out := must(t, "missing", "--data", to); out != "" {
		t.Errorf("after the import, missing says %q", out)
	}
}

// TestPrewarmOnPush: a followed image that is pushed here is looked at at once,
// and is indexed before anybody asks for it.
func TestPrewarmOnPush(t *testing.T) {
	s := newShelf(t)
	config := append(readFile(t, s.config), "prewarm: {jobs: [{images: [\"local/acme/app:1.*\"], schedule: \"@every 24h\"}]}\n"...)
	if err := os.WriteFile(s.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	admin := "127.0.0.1:" + freePort(t)
	srv := startServer(t, "--config", s.config, "--admin", admin)
	s.URL = "http://" + srv.addr // what is pushed goes there
	s.push(t, "local/acme/app:1.7", 1, "amd64", "arm64")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for done := false; !done; {
		resp, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		list := decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir))
		done = len(list) == 2 && bytes.Contains(text, []byte("sociable_prewarm_images_total{result=\"same\"} 1\n"))
		for _, x := range list {
			done = done && x.Index != ""
		}
		if ctx.Err() != nil {
			t.Fatalf("never looked at, or never indexed: %+v", list)
		}
	}
}
