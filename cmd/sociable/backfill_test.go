package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sociable/sociable/web"
)

// counted stands in front of a shelf and counts what is asked for; what hold is
// true of waits for release.
type counted struct {
	*httptest.Server
	mu      sync.Mutex
	asked   map[string]int
	hold    func(path string) bool
	release chan struct{}
}

func newCounted(t *testing.T, s *shelf) *counted {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{asked: map[string]int{}}
	to := httputil.NewSingleHostReverseProxy(u)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.asked[r.Method+" "+r.URL.Path]++
		hold, release := c.hold, c.release
		c.mu.Unlock()
		if hold != nil && hold(r.URL.Path) {
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
		to.ServeHTTP(w, r)
	}))
	t.Cleanup(c.Close)
	text := strings.Replace(string(readFile(t, s.config)), s.URL, c.URL, 1)
	text = strings.Replace(text, "index: {", "index: {workers: 2, ", 1) // one may be held
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *counted) holds(what func(path string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold, c.release = what, make(chan struct{})
}

func (c *counted) times(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[what]
}

// await asks again and again, for a minute at most.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: never", what)
		}
	}
}

// indexedAt lists the references of images that have an index.
func indexedAt(t *testing.T, dir string) (refs []string) {
	t.Helper()
	for _, x := range decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", dir)) {
		if x.Index != "" {
			refs = append(refs, x.Repository+":"+strings.Join(x.Tags, ","))
		}
	}
	slices.Sort(refs)
	return refs
}

// TestBackfill: all images that a pattern means are indexed though nobody pulls
// them, also across a kill -9, after which no layer that was through is fetched
// again; what is cancelled stays so.
func TestBackfill(t *testing.T) {
	s := newShelf(t)
	images := map[string]uint64{"acme/app:1.0": 1, "acme/app:1.1": 2, "acme/app:2.0": 3, "acme/base:1.0": 4, "other/app:1.0": 5}
	last := ""
	for word, seed := range images {
		s.push(t, word, seed, "amd64")
		if word == "acme/base:1.0" {
			d, err := layer(t, seed, 900_000).Digest()
			if err != nil {
				t.Fatal(err)
			}
			last = d.String()
		}
	}
	c := newCounted(t, s)
	c.holds(func(path string) bool { return strings.HasSuffix(path, last) })
	srv := startServer(t, "--config", s.config)
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"up/acme/*", "--span-size", "1MiB"}, "--span-size goes with one image", exitUsage},
		{[]string{"*/acme/*"}, "name the upstream in front", exitFailed},
		{[]string{"nothing.example/acme/*"}, `no upstream "nothing.example" is configured here`, exitFailed},
		{[]string{"up/nothing/*"}, "no image that a rule has indexed matches up/nothing/*:*", exitFailed},
		{[]string{"up/Acme/*"}, "is not a pattern of images", exitFailed},
	} {
		if _, errs := program(t, tc.code, append([]string{"index", "create", "--data", srv.dir}, tc.args...)...); !strings.Contains(errs, tc.want) {
			t.Errorf("%q: %s", tc.args, errs)
		}
	}
	must(t, "jobs", "clear", "catalog:up/nothing/*:*", "--data", srv.dir)
	if out := must(t, "index", "create", "up/acme/*:1.*", "--platform", "linux/amd64", "--data", srv.dir); !strings.Contains(out, "catalog:up/acme/*:1.* was filed") {
		t.Errorf("filed: %s", out)
	}
	await(t, "two of three", func() bool { return len(indexedAt(t, srv.dir)) == 2 && c.times("GET /v2/acme/base/blobs/"+last) > 0 })
	if err := srv.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	srv.end(t)
	close(c.release)
	before := map[string]int{}
	c.mu.Lock()
	for k, n := range c.asked {
		before[k] = n
	}
	c.mu.Unlock()
	again := startServer(t, "--config", s.config, "--data", srv.dir)
	await(t, "all three", func() bool { return len(indexedAt(t, srv.dir)) == 3 })
	want := []string{"up/acme/app:1.0", "up/acme/app:1.1", "up/acme/base:1.0"}
	if got := indexedAt(t, srv.dir); !slices.Equal(got, want) {
		t.Errorf("indexed %q, want %q", got, want)
	}
	c.mu.Lock()
	for k, n := range c.asked {
		if strings.HasPrefix(k, "GET") && strings.Contains(k, "/blobs/") && n != before[k] && !strings.HasSuffix(k, last) {
			t.Errorf("%s was asked for again after the restart", k)
		}
	}
	c.mu.Unlock()

	// Cancelled, it is in the list until it is retried.
	c.holds(func(path string) bool { return strings.Contains(path, "/other/app/blobs/") })
	must(t, "index", "create", "up/other/*", "--platform", "linux/amd64", "--data", srv.dir)
	jobs := func() (ids map[string]web.Job) {
		ids = map[string]web.Job{}
		for _, x := range decodeJSON[[]web.Job](t, must(t, "jobs", "list", "--json", "--data", srv.dir)) {
			ids[x.ID] = x
		}
		return ids
	}
	id := ""
	await(t, "a job", func() bool {
		for k, x := range jobs() {
			if x.Kind == "layer" {
				id = k
			}
		}
		return id != ""
	})
	must(t, "jobs", "cancel", id, "--data", srv.dir)
	close(c.release)
	if err := again.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	again.end(t)
	startServer(t, "--config", s.config, "--data", srv.dir)
	if x := jobs()[id]; x.State != web.JobCancelled {
		t.Errorf("after a restart the cancelled job is %+v", x)
	}
	must(t, "jobs", "retry", id, "--data", srv.dir)
	await(t, "the retried job", func() bool { return slices.Contains(indexedAt(t, srv.dir), "up/other/app:1.0") })
	await(t, "no job left", func() bool { return len(jobs()) == 0 }) // its row goes after the index is listed
}
