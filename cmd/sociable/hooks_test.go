package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sociable/sociable/web"
)

// TestHooks: an image that was pushed to its upstream is indexed because the
// upstream says so, also when the proxy is killed right after its 202; what is
// told again, what no rule wants, and what was pushed from here changes nothing.
func TestHooks(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/app:1.0", 1, "amd64", "arm64")
	s.push(t, "acme/out:1.0", 2, "amd64")
	c := newCounted(t, s)
	secret := filepath.Join(t.TempDir(), "secret")
	putFile(t, secret, "an old one that is still good\n0123456789abcdef\n")
	text := string(readFile(t, s.config))
	text = strings.Replace(text, "{up: {", fmt.Sprintf("{up: {hook: {secret_file: %q}, tag_ttl: 1h, ", secret), 1)
	text = strings.Replace(text, `repositories: ["**"]`, `repositories: ["**"], exclude: ["up/acme/out"], platforms: [linux/amd64], publish_upstream: true`, 1)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	event := func(repo, tag, digest string) string {
		return fmt.Sprintf(`{"events":[{"action":"push","target":{"mediaType":"application/vnd.oci.image.index.v1+json","repository":%q,"tag":%q,"digest":%q}}]}`, repo, tag, digest)
	}
	srv := startServer(t, "--config", s.config)
	post := func(addr, auth, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/hooks/up", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b.String()
	}
	const good = "Bearer 0123456789abcdef"
	if code, out := post(srv.addr, "Bearer x", event("acme/app", "1.0", d.String())); code != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d %s", code, out)
	}
	if code, out := post(srv.addr, good, event("acme/out", "1.0", "")); code != http.StatusAccepted || !strings.Contains(out, `"queued":0`) {
		t.Errorf("of no rule: %d %s", code, out)
	}
	if code, out := post(srv.addr, good, event("acme/app", "1.0", d.String())); code != http.StatusAccepted || !strings.Contains(out, `"queued":1`) {
		t.Errorf("a push: %d %s", code, out)
	}
	if err := srv.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	srv.end(t)
	again := startServer(t, "--config", s.config, "--data", srv.dir)
	quiet := func() bool {
		return len(decodeJSON[[]web.Job](t, must(t, "jobs", "list", "--json", "--data", srv.dir))) == 0
	}
	await(t, "the image", func() bool { return slices.Equal(indexedAt(t, srv.dir), []string{"up/acme/app:1.0"}) && quiet() })

	// Once more, also as the upstream tells of what was pushed to it from here.
	blobs := func() (n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for k, times := range c.asked {
			if !strings.HasPrefix(k, "HEAD") && strings.Contains(k, "/blobs/") {
				n += times
			}
		}
		return n
	}
	before := blobs()
	var events []string
	for _, x := range decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir)) {
		for _, p := range x.Published {
			events = append(events, event("acme/app", "", p.Index.String()))
			for _, tag := range p.Tags {
				events = append(events, event("acme/app", tag, p.Index.String()))
			}
		}
	}
	if len(events) != 3 {
		t.Errorf("%d events of what was pushed from here, want 3", len(events))
	}
	for _, e := range events {
		if code, out := post(again.addr, good, e); code != http.StatusAccepted || !strings.Contains(out, `"queued":0`) {
			t.Errorf("of our own push: %d %s", code, out)
		}
	}
	for range 3 {
		if code, out := post(again.addr, good, event("acme/app", "1.0", d.String())); code != http.StatusAccepted {
			t.Errorf("told again: %d %s", code, out)
		}
	}
	await(t, "quiet", quiet)
	if n := blobs(); n != before {
		t.Errorf("%d blobs more were moved for what was told again", n-before)
	}
	// The tag moves within its TTL: the upstream says so, and is believed.
	s.push(t, "acme/app:1.0", 7, "amd64")
	if code, out := post(again.addr, good, event("acme/app", "1.0", "")); code != http.StatusAccepted || !strings.Contains(out, `"queued":1`) {
		t.Errorf("a push that moves a tag: %d %s", code, out)
	}
	await(t, "the image of the tag that moved", func() bool { return len(indexedAt(t, srv.dir)) == 2 && quiet() })
}
