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
	"sync"
	"testing"
)

// TestReloadReaches: a transfer that is under way goes on across a reload, while
// another password and another budget of its upstream count at once.
func TestReloadReaches(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	d := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	half, rest := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	passwords := map[string]int{}
	g := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="up"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		passwords[password]++
		mu.Unlock()
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		switch {
		case strings.HasSuffix(r.URL.Path, d) && r.Method == http.MethodGet:
			_, _ = w.Write(blob[:len(blob)/2])
			_ = http.NewResponseController(w).Flush() // of a test's server
			close(half)
			<-rest
			_, _ = w.Write(blob[len(blob)/2:])
		case r.Method == http.MethodHead:
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(g.Close)
	asked := func(password string) int {
		mu.Lock()
		defer mu.Unlock()
		return passwords[password]
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	config := func(password, more string) {
		putFile(t, file, fmt.Sprintf("access: open\nupstreams: {up: {url: %q, username: us, password: %s, stall_timeout: 1m%s}}\n", g.URL, password, more))
	}
	config("one", "")
	s := startServer(t, "--config", file)
	reload := func() {
		t.Helper()
		if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
			t.Fatalf("reload: %d %s", code, out)
		}
	}
	type result struct {
		body []byte
		err  error
	}
	got := make(chan result, 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/v2/up/app/blobs/"+d, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			got <- result{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		got <- result{body, err}
	}()
	<-half
	config("two", "")
	reload()
	other := func(n int) int {
		code, _ := plainGet(t, http.MethodGet, fmt.Sprintf("http://%s/v2/up/app/blobs/sha256:%064x", s.addr, n), nil)
		return code
	}
	if code := other(1); code != http.StatusNotFound || asked("two") == 0 {
		t.Errorf("with another password: %d, asked with it %d times", code, asked("two"))
	}
	before := asked("one")
	close(rest)
	if r := <-got; r.err != nil || !bytes.Equal(r.body, blob) {
		t.Errorf("the transfer across the reload: %d bytes, %v", len(r.body), r.err)
	}
	// One request a minute: the first has the budget, the next is told to wait.
	config("two", ", requests_per_minute: 1")
	reload()
	codes := []int{other(2), other(3), other(4)}
	if codes[2] != http.StatusTooManyRequests {
		t.Errorf("with a budget of one request a minute: %v, want 429 at last", codes)
	}
	config("two", "")
	reload()
	if code := other(5); code != http.StatusNotFound {
		t.Errorf("without a budget: %d", code)
	}
	if n := asked("one"); n != before {
		t.Errorf("the old password was sent %d times after the reload", n-before)
	}
}
