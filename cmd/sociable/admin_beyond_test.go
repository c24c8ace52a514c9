package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestAdminBeyondLoopback: there, everything but health needs a login.
func TestAdminBeyondLoopback(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("users"), htpasswdLine(t, "alice", "wonder")+htpasswdLine(t, "bob", "builder"))
	putFile(t, at("config.yml"), fmt.Sprintf("auth:\n  htpasswd_file: %s\n  rules: [{repositories: [\"**\"], pull: [anonymous], administer: [alice]}]\n", at("users")))
	port := freePort(t)
	s := startServer(t, "--config", at("config.yml"), "--admin", "0.0.0.0:"+port)
	basic := func(u, p string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(u, p) }
	}
	out, code := sociable(t, "admin", "token", "--data", s.dir, "--ttl", "1m")
	if code != 0 {
		t.Fatalf("admin token: %d %s", code, out)
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(out)) }
	for _, tt := range []struct {
		name, path string
		auth       func(*http.Request)
		want       int
	}{
		{"health", "/healthz", nil, 200},
		{"readiness", "/readyz", nil, 200},
		{"readiness, verbose", "/readyz?verbose", nil, 401},
		{"metrics, nobody", "/metrics", nil, 401},
		{"metrics, alice", "/metrics", basic("alice", "wonder"), 200},
		{"metrics, wrong", "/metrics", basic("alice", "x"), 401},
		{"metrics, bob", "/metrics", basic("bob", "builder"), 403},
		{"metrics, by token", "/metrics", bearer, 200},
		{"root", "/", nil, 401},
		{"what there is not", "/nothing", nil, 401},
	} {
		if got, body := plainGet(t, http.MethodGet, "http://127.0.0.1:"+port+tt.path, tt.auth); got != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, got, body, tt.want)
		}
	}
	if got, _ := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/", bearer); got != 401 {
		t.Errorf("the admin token at the registry: %d, want 401", got)
	}
	if out, code := sociable(t, "admin", "token", "--data", s.dir, "--ttl", "48h"); code != exitUsage {
		t.Errorf("a token for two days: %d %s", code, out)
	}
	if out, code := sociable(t, "admin", "token", "--data", t.TempDir()); code != exitFailed || !strings.Contains(out, "no server is running") {
		t.Errorf("a token without a server: %d %s", code, out)
	}
}

// TestAdminOnLoopback: there it is open as long as pulling is; a reload that says
// who may pull closes it, and health stays.
func TestAdminOnLoopback(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("users"), htpasswdLine(t, "alice", "wonder"))
	putFile(t, at("config.yml"), "access: open\n")
	port := freePort(t)
	s := startServer(t, "--config", at("config.yml"), "--admin", "127.0.0.1:"+port)
	look := func(when, path string, want int, auth func(*http.Request)) {
		t.Helper()
		if got, body := plainGet(t, http.MethodGet, "http://127.0.0.1:"+port+path, auth); got != want {
			t.Errorf("%s, %s: %d %.200s, want %d", when, path, got, body, want)
		}
	}
	for _, path := range []string{"/", "/metrics", "/api/v1/images"} {
		look("nothing said", path, 200, nil)
	}
	putFile(t, at("config.yml"), fmt.Sprintf("auth:\n  htpasswd_file: %s\n  rules: [{repositories: [\"**\"], pull: [anonymous], administer: [alice]}]\n", at("users")))
	if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
		t.Fatalf("reload: %d %s", code, out)
	}
	for _, path := range []string{"/", "/metrics", "/api/v1/images", "/readyz?verbose", "/layers/sha256:1"} {
		look("auth", path, 401, nil)
	}
	look("auth", "/healthz", 200, nil)
	look("auth", "/metrics", 200, func(r *http.Request) { r.SetBasicAuth("alice", "wonder") })
	if out, code := sociable(t, "index", "list", "--data", s.dir); code != 0 {
		t.Errorf("the command line: %d %s", code, out)
	}
	putFile(t, at("config.yml"), "access: open\n")
	if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
		t.Fatalf("reload: %d %s", code, out)
	}
	look("nothing said again", "/metrics", 200, nil)
}

// TestOpenMetrics: a scraper without a login gets the metrics there, and nothing
// else.
func TestOpenMetrics(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("users"), htpasswdLine(t, "alice", "wonder"))
	port := freePort(t)
	putFile(t, at("config.yml"), fmt.Sprintf(`
admin: {listen: "0.0.0.0:%s", open_metrics: true}
auth: {htpasswd_file: %s, rules: [{repositories: ["**"], pull: [anonymous], administer: [alice]}]}
`, port, at("users")))
	startServer(t, "--admin", "0.0.0.0:"+port, "--config", at("config.yml"))
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"GET", "/healthz", 200}, {"GET", "/readyz", 200},
		{"GET", "/readyz?verbose", 401}, {"GET", "/", 401}, {"GET", "/metrics/", 401}, {"GET", "//metrics", 401}, {"GET", "/x/../metrics", 401},
	} {
		got, body := plainGet(t, tt.method, "http://127.0.0.1:"+port+tt.path, nil)
		if got != tt.want {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, got, body, tt.want)
		}
		if tt.method == "GET" && tt.path == "/metrics" && !strings.Contains(string(body), "# HELP ") {
			t.Errorf("/metrics is %q", body)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	for range 100 { // below the ports that whoever connects may be given meanwhile
		port := strconv.Itoa(15_000 + rand.IntN(17_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no free port in 100")
	return ""
}
