package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestOneUpstreamOffline holds that offline: true of one upstream counts for that
// one alone, from the next reload on: it is not dialled, what is here is served,
// and what is not is said to be missing.
func TestOneUpstreamOffline(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	s.push(t, "acme/other:1", 3, "amd64")
	var asked atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		s.Config.Handler.ServeHTTP(w, r)
	}))
	defer up.Close()
	file := filepath.Join(t.TempDir(), "config.yml")
	write := func(offline bool) {
		t.Helper()
		text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"\"}\nupstreams:\n  a.test: {url: %q, tag_ttl: 0s, offline: %t}\n  b.test: {url: %q}\n", up.URL, offline, up.URL)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(false)
	srv := startServer(t, "--config", file)
	must(t, "warm", "a.test/acme/app:1", "--data", srv.dir)
	write(true)
	must(t, "config", "reload", "--data", srv.dir)
	asked.Store(0)
	get := func(path string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+srv.addr+"/v2/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("Warning") != "" {
			t.Errorf("%s: %s, Warning %q, want %d", path, resp.Status, resp.Header.Get("Warning"), want)
		}
	}
	get("a.test/acme/app/manifests/1", 200)
	get("a.test/acme/other/manifests/1", 404)
	if n := asked.Load(); n != 0 {
		t.Errorf("the upstream that is offline was asked %d times", n)
	}
	get("b.test/acme/other/manifests/1", 200)
	if asked.Load() == 0 {
		t.Error("the other upstream was not asked")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := ""
	for out == "" && ctx.Err() == nil { // it is written behind the answer
		out = must(t, "missing", "--data", srv.dir)
	}
	if !strings.Contains(out, "a.test/acme/other:1") {
		t.Errorf("missing says %q", out)
	}
}
