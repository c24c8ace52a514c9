package door

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
)

func manifestOf(body []byte) (m v1.Manifest, err error) { return m, json.Unmarshal(body, &m) }

// htpasswd are the users of passwords.
const htpasswd = `alice:$2a$04$/OenWIUwiJwN/p.YB7M2deKycCS9Fut20sSj7v8EOuLc7Zh.Do3H.
bob:$2a$04$9hnjxocdDh4stjDx.Zzge.3WdImKsUwzi90roZ9qJCvsC/Omr3Frq
`

// startRegistry runs Debian's docker-registry; more is added to its
// configuration.
func startRegistry(t *testing.T, more ...string) *harness.Registry {
	t.Helper()
	r, err := harness.StartRegistry(context.WithoutCancel(t.Context()), programs.DockerRegistry, t.TempDir(), more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("stop docker-registry: %v", err)
		}
	})
	return r
}

// TestLogin has real clients push and pull as people who may, and may not, where
// our own token service knows them, and where another one does.
func TestLogin(t *testing.T) {
	public := startRegistry(t)
	pub := newImage(t)
	if err := clients["crane"](t).push(t.Context(), pub, public.Addr+"/pub/app:1"); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users")
	write(t, users, htpasswd)
	a := newAuthority(t)
	ts := newTokenServer(t, a)
	upstreams := fmt.Sprintf("upstreams: {up: {url: %q}}\n", public.URL())
	for name, auth := range map[string]string{
		"our token service": fmt.Sprintf(`auth:
  htpasswd_file: %q
  rules:
    - {repositories: ["local/**"], pull: [authenticated], push: [alice]}
`, users),
		"a token server": fmt.Sprintf("auth:\n  token_server: {realm: %q, service: ours, issuer: %q, keys_url: %q}\n", ts.realm(), ts.issuer, ts.plain.URL+"/jwks"),
	} {
		p := startProxy(t, upstreams+auth)
		for kind, newClient := range clients {
			t.Run(name+"/"+kind, func(t *testing.T) { logins(t, p.Addr, kind, newClient, pub) })
		}
		if name == "our token service" {
			t.Run(name+"/catalog", func(t *testing.T) { lists(t, p.Addr) })
		}
	}
}

// lists has crane list repositories: who has logged in finds theirs.
func lists(t *testing.T, addr string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, who := range []string{"alice", "bob", ""} {
		c := crane{t.TempDir(), t.TempDir()}
		if who != "" {
			if err := c.login(ctx, addr, who, passwords[who]); err != nil {
				t.Fatal(err)
			}
		}
		if who == "alice" {
			if err := c.push(ctx, newImage(t), addr+"/local/listed/app:1"); err != nil {
				t.Fatal(err)
			}
		}
		out, err := harness.Run(ctx, "env", "DOCKER_CONFIG="+c.config, programs.Crane, "--insecure", "catalog", addr)
		if err != nil || strings.Contains(string(out), "local/listed/app") != (who != "") {
			t.Errorf("%q lists %q, %v", who, out, err)
		}
	}
}

func logins(t *testing.T, addr, kind string, newClient func(*testing.T) client, pub image) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	as := map[string]client{"nobody": newClient(t)}
	for user, password := range passwords {
		as[user] = newClient(t)
		if err := as[user].login(ctx, addr, user, password); err != nil {
			t.Fatalf("%s logs in: %v", user, err)
		}
	}
	as["an impostor"] = newClient(t)
	if err := as["an impostor"].login(ctx, addr, "alice", "builder"); kind == "skopeo" && (err == nil || !strings.Contains(err.Error(), "invalid username/password")) {
		t.Errorf("a wrong password: %v", err) // the others find out when they use it
	} else if kind == "skopeo" {
		delete(as, "an impostor") // it was told, and kept nothing
	}
	own := newImage(t)
	ref := addr + "/local/" + kind + "/app:1"
	for _, who := range []string{"nobody", "an impostor", "bob"} {
		if c := as[who]; c != nil {
			if err := c.push(ctx, own, ref); err == nil {
				t.Errorf("%s pushes", who)
			}
		}
	}
	if err := as["alice"].push(ctx, own, ref); err != nil {
		t.Fatalf("alice pushes: %v", err)
	}
	for who, c := range as {
		got, err := c.pull(ctx, ref)
		if may := who == "alice" || who == "bob"; may && (err != nil || got != own.digest) || !may && err == nil {
			t.Errorf("%s pulls what alice pushed: %s, %v", who, got, err)
		}
		if who == "an impostor" {
			continue
		}
		if got, err := c.pull(ctx, addr+"/up/pub/app:1"); err != nil || got != pub.digest {
			t.Errorf("%s pulls what is public: %s, %v", who, got, err)
		}
	}
}

// isCached asks for what is filed behind the answer that has it: it is sent without
// asking the upstream.
func isCached(t *testing.T, addr, path, user string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", v1.MediaTypeImageManifest)
	req.SetBasicAuth(user, passwords[user])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header.Get("X-Cache") == "hit"
}

// TestContainerdMirror has containerd pull through hosts.toml, with credentials
// for the mirror, while what the reference names is not to be reached.
func TestContainerdMirror(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	private := startRegistry(t)
	img := newImage(t)
	if err := clients["crane"](t).push(ctx, img, private.Addr+"/team/app:1"); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users")
	write(t, users, htpasswd)
	p := startProxy(t, fmt.Sprintf(`upstreams: {registry.test: {url: %q}}
auth:
  htpasswd_file: %q
  rules: [{repositories: ["registry.test/team/**"], pull: [bob]}]
`, private.URL(), users))
	hosts := t.TempDir()
	if err := os.Mkdir(filepath.Join(hosts, "registry.test"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(hosts, "registry.test", "hosts.toml"), fmt.Sprintf(`server = "http://127.0.0.1:9"
[host."http://%s"]
capabilities = ["pull", "resolve"]
`, p.Addr))
	for who, may := range map[string]bool{"nobody": false, "alice": false, "bob": true} {
		c := &containerd{hosts: hosts, user: who, password: passwords[who], at: p.Addr}
		got, err := c.pull(ctx, "registry.test/team/app:1")
		if may != (err == nil) || may && got != img.digest {
			t.Errorf("%s: %s, %v", who, got, err)
		}
	}
	eventually(t, "the tag in the cache", func() bool { return isCached(t, p.Addr, "/v2/team/app/manifests/1?ns=registry.test", "bob") })
	if err := private.Stop(); err != nil {
		t.Fatal(err)
	}
	c := &containerd{hosts: hosts, user: "bob", password: passwords["bob"], at: p.Addr}
	if got, err := c.pull(ctx, "registry.test/team/app:1"); err != nil || got != img.digest {
		t.Errorf("from the cache: %s, %v", got, err)
	}
	if resp, err := http.Get("http://" + p.Addr + "/v2/team/app/blobs/" + img.blobs[0].Digest.String() + "?ns=registry.test"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("nobody guesses a digest of what is cached: %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
}
