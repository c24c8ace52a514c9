package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCredentialsTakenAway: what an upstream showed to our credentials is not
// everybody's once they are gone, by a reload or over a restart.
func TestCredentialsTakenAway(t *testing.T) {
	for _, how := range []string{"reload", "restart"} {
		t.Run(how, func(t *testing.T) {
			g := newPrivateRegistry(t)
			img := g.push(t, "priv/app:1")
			dir := t.TempDir()
			users, file := filepath.Join(dir, "users"), filepath.Join(dir, "config.yml")
			putFile(t, users, htpasswdLine(t, "bob", "b"))
			config := func(more string) {
				putFile(t, file, fmt.Sprintf("auth: {htpasswd_file: %s}\nupstreams: {up: {url: %q%s}}\n", users, g.URL, more))
			}
			config(", username: alice, password: wonder")
			s := startServer(t, "--config", file)
			bob := func(r *http.Request) { r.SetBasicAuth("bob", "b") }
			get := func(path string, as func(*http.Request)) int {
				code, _ := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/up/priv/app/"+path, as)
				return code
			}
			d, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			layer, err := layers[0].Digest()
			if err != nil {
				t.Fatal(err)
			}
			paths := []string{"manifests/1", "manifests/" + d.String(), "blobs/" + layer.String(), "referrers/" + d.String()}
			for _, p := range paths {
				if code := get(p, bob); code != http.StatusOK {
					t.Fatalf("bob, %s: %d", p, code)
				}
			}
			if code := get("manifests/1", nil); code != http.StatusUnauthorized {
				t.Errorf("nobody, while there are credentials: %d", code)
			}
			config("")
			if how == "reload" {
				if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
					t.Fatal(out)
				}
			} else {
				if err := s.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				s.end(t)
				data := s.dir
				s = startServer(t, "--config", file, "--data", data)
				s.dir = data
			}
			for _, p := range paths {
				if code := get(p, nil); code == http.StatusOK {
					t.Errorf("nobody reads %s of a repository that the upstream shows to nobody", p)
				}
			}
			config(", username: alice, password: wonder")
			if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
				t.Fatal(out)
			}
			for _, p := range paths {
				if code := get(p, bob); code != http.StatusOK {
					t.Errorf("bob, with the credentials back, %s: %d", p, code)
				}
			}
		})
	}
}

// TestReloadKeepsCallers: who passes through to an upstream goes on after a reload
// made another client of it.
func TestReloadKeepsCallers(t *testing.T) {
	g := newPrivateRegistry(t)
	g.push(t, "priv/app:1")
	file := filepath.Join(t.TempDir(), "config.yml")
	config := func(more string) {
		putFile(t, file, fmt.Sprintf("upstreams: {up: {url: %q, access: passthrough%s}}\n", g.URL, more))
	}
	config("")
	s := startServer(t, "--config", file)
	get := func(path string) int {
		code, _ := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/up/priv/"+path, func(r *http.Request) { r.SetBasicAuth("alice", "wonder") })
		return code
	}
	if code := get("app/manifests/1"); code != http.StatusOK {
		t.Fatal(code)
	}
	config(", stall_timeout: 6s")
	if out, code := sociable(t, "config", "reload", "--data", s.dir); code != 0 {
		t.Fatal(out)
	}
	g.push(t, "priv/other:1")
	for _, p := range []string{"app/manifests/1", "app/tags/list", "other/manifests/1"} {
		if code := get(p); code != http.StatusOK {
			t.Errorf("after the reload, %s: %d", p, code)
		}
	}
}
