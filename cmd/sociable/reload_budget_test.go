package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReloadBudget: a budget that is changed counts for the transfer that is under
// way, and another change lets nobody ask an upstream that asked for a pause.
func TestReloadBudget(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB: two minutes at 64 KiB a second
	d := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	asked := make(chan string, 100)
	g := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, d):
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
		case strings.Contains(r.URL.Path, "/manifests/"):
			asked <- r.URL.Path
			w.Header().Set("Retry-After", "300")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusOK)
		}
	}))
	t.Cleanup(g.Close)
	file := filepath.Join(t.TempDir(), "config.yml")
	config := func(more string) {
		putFile(t, file, fmt.Sprintf("upstreams: {up: {url: %q%s}}\n", g.URL, more))
	}
	config(", bytes_per_second: 64KiB")
	s := startServer(t, "--config", file)
	reload := func() {
		t.Helper()
		if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
			t.Fatalf("reload: %d %s", code, out)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/v2/up/app/blobs/"+d, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	config("")
	reload()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(blob)-1<<10) {
		t.Errorf("the rest: %d bytes, %v", n, err)
	}

	ask := func() int {
		code, _ := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/up/app/manifests/1", nil)
		return code
	}
	if code := ask(); code != http.StatusTooManyRequests {
		t.Errorf("throttled: %d", code)
	}
	n := len(asked)
	config(", retries: 1")
	reload()
	if code := ask(); code != http.StatusTooManyRequests || len(asked) != n {
		t.Errorf("after a reload within the pause: %d, asked %d times more", code, len(asked)-n)
	}
}
