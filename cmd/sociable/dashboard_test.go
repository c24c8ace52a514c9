package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/web/ui"
)

// TestDashboard: what is pulled is counted and listed, under the names that the
// server's own metrics have.
func TestDashboard(t *testing.T) {
	up := newFakeUpstream(t)
	admin := "127.0.0.1:" + freePort(t)
	s := startServer(t, "--upstream", "lab="+up.URL, "--admin", admin)
	for range 2 {
		if status, body := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/lab/app/manifests/1", nil); status != 200 {
			t.Fatalf("pull: %d %s", status, body)
		}
	}
	_, _ = plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/lab/app/manifests/2", nil)
	var o ui.Overview
	get := func(path string, into any) {
		t.Helper()
		status, body := browse(t, http.DefaultClient, "http://"+admin+path, nil)
		if status != 200 {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	// A request is counted when it is over, which is after its answer.
	for deadline := time.Now().Add(time.Minute); ; {
		if get("/api/v1/overview", &o); o.Traffic.Requests >= 3 || time.Now().After(deadline) {
			break
		}
	}
	if x := o.Traffic; x.Requests != 3 || x.HitRatio == nil || *x.HitRatio != 0.5 || x.SentBytes == 0 {
		said, _ := json.Marshal(x)
		t.Errorf("traffic %s, want 3 requests, half of them hits", said)
	}
	if len(o.Upstreams) == 0 || len(o.Charts) == 0 {
		t.Errorf("%d upstreams, %d charts", len(o.Upstreams), len(o.Charts))
	}
	for _, call := range [][3]string{
		{"warm", `{"name":"lab/app:1","pin":true}`, `"image":{`},
		{"warm", `{"name":"lab/APP"}`, `NAME_INVALID`},
		{"warm", `{"name":"elsewhere.example/app"}`, `NAME_UNKNOWN`},
		{"setup/test", `{"image":"` + s.addr + `/lab/app:1"}`, `"reference":"` + s.addr + `/lab/app:1"`},
	} {
		status, body := tell(t, "http://"+admin+"/api/v1/"+call[0], call[1])
		if (status == 200) == strings.HasPrefix(call[2], "NAME_") || !strings.Contains(body, call[2]) {
			t.Errorf("%s: %d %s", call[0], status, body)
		}
	}
	if out, code := sociable(t, "pins", "--data", s.dir); code != 0 || !strings.Contains(out, "lab/app:1") {
		t.Errorf("pins after it: %d %s", code, out)
	}
	var setup ui.Setup
	if get("/api/v1/setup", &setup); setup.Address != s.addr {
		t.Errorf("the registry is said to be at %s", setup.Address)
	}
	if status, _ := plainGet(t, http.MethodGet, "http://"+admin+"/", func(r *http.Request) { r.Host = "evil.example" }); status != http.StatusMisdirectedRequest {
		t.Errorf("another name than this machine's: %d", status)
	}
}

// TestDashboardOff: then there are metrics and health, and nothing else.
func TestDashboardOff(t *testing.T) {
	t.Setenv("SOCIABLE_ADMIN_DASHBOARD", "false")
	admin := "127.0.0.1:" + freePort(t)
	startServer(t, "--admin", admin)
	for path, want := range map[string]int{"/": 200, "/metrics": 200, "/readyz": 200, "/images": 404, "/api/v1/overview": 404, "/login": 404} {
		if got, _ := plainGet(t, http.MethodGet, "http://"+admin+path, nil); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

// TestDashboardLogin: a browser is sent to log in, with a password or a token, and
// is out when the right or the password is gone.
func TestDashboardLogin(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("users"), htpasswdLine(t, "alice", "wonder")+htpasswdLine(t, "bob", "builder"))
	putFile(t, at("config.yml"), fmt.Sprintf("auth:\n  htpasswd_file: %s\n  rules: [{repositories: [\"**\"], pull: [anonymous], administer: [alice]}]\n", at("users")))
	port := freePort(t)
	s := startServer(t, "--config", at("config.yml"), "--admin", "0.0.0.0:"+port)
	base := "http://127.0.0.1:" + port
	token, code := sociable(t, "admin", "token", "--data", s.dir, "--ttl", "1m")
	if code != 0 {
		t.Fatalf("admin token: %d %s", code, token)
	}
	for _, tt := range []struct {
		name, user, password string
		status               int
		page                 string
	}{
		{"alice", "alice", "wonder", 200, "<h1>Overview"},
		{"a token", "", token, 200, "<h1>Overview"},
		{"a wrong password", "alice", "x", 401, "wrong user or password"},
		{"no right", "bob", "builder", 403, "bob may not administer"},
		{"no token", "", "x", 401, "not one of ours"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			b := &http.Client{Jar: jar}
			if status, page := browse(t, b, base+"/images", nil); status != 200 || !strings.Contains(page, "<h1>Log in") || strings.Contains(page, "<nav") {
				t.Fatalf("logged out: %d %s", status, page)
			}
			if _, page := browse(t, b, base+"/images?sort=size", nil); !strings.Contains(page, `name="next" value="/images?sort=size"`) {
				t.Errorf("it is forgotten where one was going: %s", page)
			}
			status, page := browse(t, b, base+"/login", url.Values{"user": {tt.user}, "password": {tt.password}})
			if status != tt.status || !strings.Contains(page, tt.page) {
				t.Errorf("%d, want %d with %q: %s", status, tt.status, tt.page, page)
			}
			status, page = browse(t, b, base+"/jobs", nil)
			if in := strings.Contains(page, "<h1>Jobs"); in != (tt.status == 200) || status != 200 {
				t.Errorf("afterwards: %d %s", status, page)
			}
			if tt.user != "alice" || tt.status != 200 {
				return
			}
			putFile(t, at("users"), htpasswdLine(t, "alice", "other")+htpasswdLine(t, "bob", "builder"))
			for deadline := time.Now().Add(time.Minute); !strings.Contains(page, "<h1>Log in"); _, page = browse(t, b, base+"/jobs", nil) {
				if time.Now().After(deadline) {
					t.Fatal("a session outlives its password")
				}
			}
			putFile(t, at("users"), htpasswdLine(t, "alice", "wonder")+htpasswdLine(t, "bob", "builder"))
			if got, _ := plainGet(t, http.MethodGet, base+"/api/v1/jobs", nil); got != 401 {
				t.Errorf("the API, logged out: %d, want 401", got)
			}
			for _, path := range []string{"purge", "warm", "pin"} {
				as := func(user, password string) func(*http.Request) {
					return func(r *http.Request) {
						r.Header.Set("Content-Type", "application/json")
						if user != "" {
							r.SetBasicAuth(user, password)
						}
					}
				}
				if got, _ := plainGet(t, http.MethodPost, base+"/api/v1/"+path, as("", "")); got != 401 {
					t.Errorf("%s, logged out: %d, want 401", path, got)
				}
				if got, _ := plainGet(t, http.MethodPost, base+"/api/v1/"+path, as("bob", "builder")); got != 403 {
					t.Errorf("%s by who may not administer: %d, want 403", path, got)
				}
			}
		})
	}
}

// TestDashboardLogout: who logged out is out, also with a copy of the cookie.
func TestDashboardLogout(t *testing.T) {
	dir := t.TempDir()
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "config.yml")
	putFile(t, users, htpasswdLine(t, "alice", "wonder"))
	putFile(t, config, fmt.Sprintf("auth:\n  htpasswd_file: %s\n  rules: [{repositories: [\"**\"], pull: [anonymous], administer: [alice]}]\n", users))
	port := freePort(t)
	startServer(t, "--config", config, "--admin", "0.0.0.0:"+port)
	base := "http://127.0.0.1:" + port
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &http.Client{Jar: jar}
	browse(t, b, base+"/login", url.Values{"user": {"alice"}, "password": {"wonder"}})
	kept := jar.Cookies(at)
	if _, page := browse(t, b, base+"/jobs", nil); !strings.Contains(page, "<h1>Jobs") {
		t.Fatalf("logged in: %s", page)
	}
	browse(t, b, base+"/logout", url.Values{})
	jar.SetCookies(at, kept)
	if _, page := browse(t, b, base+"/jobs", nil); !strings.Contains(page, "<h1>Log in") {
		t.Errorf("with a copy of the cookie: %s", page)
	}
}

// tell sends JSON.
func tell(t *testing.T, target, body string) (int, string) {
	t.Helper()
	return upload(t, target, "application/json", body)
}

// browse is what a browser does: a form where there is one, else a page.
func browse(t *testing.T, b *http.Client, target string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if form != nil {
		req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	}
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := b.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
