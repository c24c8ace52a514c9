package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// users are alice, whose password is wonder, and bob, whose is builder.
const users = `alice:$2a$04$/OenWIUwiJwN/p.YB7M2deKycCS9Fut20sSj7v8EOuLc7Zh.Do3H.
bob:$2a$04$9hnjxocdDh4stjDx.Zzge.3WdImKsUwzi90roZ9qJCvsC/Omr3Frq
`

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// guarded is an upstream where one has to log in.
type guarded struct {
	url    string
	prefix string // of its repositories
	bob    bool   // may push, too
}

// guardedUpstreams are one that takes passwords with every request, and one that
// gives tokens for them, in which alice alone may push.
func guardedUpstreams(t *testing.T) map[string]guarded {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "htpasswd")
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`auth:
  htpasswd_file: %q
  rules:
    - {repositories: ["local/**"], pull: [authenticated], push: [alice], delete: [alice]}
`, file)
	for name, text := range map[string]string{file: users, config: text} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := harness.StartRegistry(suite.ctx, suite.Programs.DockerRegistry, t.TempDir(),
		"auth:", fmt.Sprintf("  htpasswd: {realm: e2e, path: %q}", file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plain.Stop(); err != nil {
			t.Errorf("stop docker-registry: %v", err)
		}
	})
	tokens := startProxyTo(t, "http://127.0.0.1:1", link.Options{}, "--config", config)
	return map[string]guarded{
		"passwords": {url: plain.URL(), bob: true},
		"tokens":    {url: "http://" + tokens.Addr, prefix: "local/"},
	}
}

// manifestAt asks u itself for the image.
func (u guarded) manifestAt(t *testing.T, i realimage.Image) int {
	t.Helper()
	a, err := request(t.Context(), strings.TrimPrefix(u.url, "http://"), http.MethodHead,
		"/v2/"+u.prefix+i.Repo()+"/manifests/"+i.Digest.String(), "Authorization", basic("alice", "wonder"), "Accept", i.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode
}

// pushAs has skopeo push an image to p's upstream u in somebody's name.
func (p *proxy) pushAs(t *testing.T, u guarded, i realimage.Image, creds ...string) error {
	t.Helper()
	args := append([]string{"copy", "--insecure-policy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"}, creds...)
	args = append(args, "docker://"+suite.Registry.Addr+"/"+i.Ref(), "docker://"+p.Addr+"/"+upstream+"/"+u.prefix+i.Ref())
	_, err := harness.Run(t.Context(), suite.Programs.Skopeo, args...)
	return err
}

// wantPushed wants the image at the upstream, its index here, and whoever listens
// to have been told.
func (p *proxy) wantPushed(t *testing.T, u guarded, i realimage.Image, h *hooks, header ...string) {
	t.Helper()
	if got := u.manifestAt(t, i); got != http.StatusOK {
		t.Errorf("at the upstream the manifest is %d", got)
	}
	path := repo(u.prefix + i.Repo())
	eventually(t, 10*time.Second, "the index of what was pushed", func() bool {
		return len(sociEntries(decode[v1.Index](t, p.get(t, path+"/referrers/"+i.Digest.String(), header...)))) == 1
	})
	told := func(d string) bool {
		return slices.ContainsFunc(h.distinct(), func(e hookEvent) bool {
			return e.Action == "push" && e.Target.Repository == upstream+"/"+u.prefix+i.Repo() && e.Target.Digest == d
		})
	}
	for _, d := range append(i.Blobs(), i.Digest) {
		eventually(t, 10*time.Second, "the event of "+d.String(), func() bool { return told(d.String()) })
	}
}

// TestPushThroughCredentials pushes to upstreams that want a login: with ours,
// which nobody else needs to know.
func TestPushThroughCredentials(t *testing.T) {
	i := image(t, realimage.ImageToolchain)
	for name, u := range guardedUpstreams(t) {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t)
			p := startProxyWith(t, u.url, link.Options{},
				[]string{setting("push", "allow"), setting("username", "alice"), setting("password", "wonder")}, "--config", h.config(t))
			if err := p.pushAs(t, u, i); err != nil {
				t.Fatal(err)
			}
			p.wantPushed(t, u, i, h)
			if u.prefix != "" { // docker-registry deletes nothing, unless it is told to
				p.wantDeleted(t, u, i)
			}
		})
	}
}

// wantDeleted deletes the image at its upstream, through p, and wants what was made
// of it here to go with it.
func (p *proxy) wantDeleted(t *testing.T, u guarded, i realimage.Image) {
	t.Helper()
	// The index that is listed may be the upstream's own, which is the very same.
	built := fmt.Sprintf(`msg="index built" repo=up/%s digest=%s`, strings.TrimPrefix(u.prefix+i.Repo(), "up/"), i.Digest)
	eventually(t, 30*time.Second, "an index that was made here", func() bool { return strings.Contains(p.Log(), built) })
	path := repo(u.prefix + i.Repo())
	image := path + "/manifests/" + i.Digest.String()
	index := path + "/manifests/" + sociEntries(decode[v1.Index](t, p.get(t, path+"/referrers/"+i.Digest.String())))[0].Digest.String()
	zTOCs := len(decode[v1.Manifest](t, p.get(t, index)).Layers)
	if a := p.sendBody(t, http.MethodDelete, image, nil); a.StatusCode != http.StatusAccepted {
		t.Fatalf("delete: %s %s", a.Status, a.body)
	}
	if got := u.manifestAt(t, i); got != http.StatusNotFound {
		t.Errorf("after the deletion the manifest is %d at the upstream", got)
	}
	var collected struct{ Report struct{ Made int } }
	out, err := harness.Run(t.Context(), suite.Programs.Sociable, "gc", "--grace", "0s", "--json", "--data", p.Data)
	if err == nil {
		err = json.Unmarshal(out, &collected)
	}
	if err != nil || collected.Report.Made < 1+zTOCs {
		t.Errorf("collect: %v: %s, want the index and %d zTOCs to go", err, out, zTOCs)
	}
	for _, gone := range []string{image, index} {
		if a := p.get(t, gone); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s, after the deletion: %d", gone, a.StatusCode)
		}
	}
	out, err = harness.Run(t.Context(), suite.Programs.Sociable, "index", "list", "--all", "--json", "--data", p.Data)
	if err != nil || strings.Contains(string(out), i.Digest.String()) {
		t.Errorf("its index is listed: %v: %s", err, out)
	}
}

// TestPushThroughCallers pushes in the names of those who push, who may do what
// the upstream lets them.
func TestPushThroughCallers(t *testing.T) {
	i, other := image(t, realimage.ImageToolchain), image(t, realimage.ImageSmall)
	for name, u := range guardedUpstreams(t) {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t)
			p := startProxyWith(t, u.url, link.Options{},
				[]string{setting("push", "allow"), setting("access", "passthrough")}, "--config", h.config(t))
			for who, creds := range map[string][]string{"nobody": {"--dest-no-creds"}, "a wrong password": {"--dest-creds", "alice:no"}} {
				if err := p.pushAs(t, u, other, creds...); err == nil {
					t.Errorf("%s pushes", who)
				}
			}
			err := p.pushAs(t, u, other, "--dest-creds", "bob:builder")
			if (err == nil) != u.bob || err != nil && !strings.Contains(err.Error(), "the upstream denies it") {
				t.Errorf("bob pushes: %v, want that to be so: %t", err, u.bob)
			}
			if got := u.manifestAt(t, other); (got == http.StatusOK) != u.bob {
				t.Errorf("after bob's push its manifest is %d", got)
			}
			if err := p.pushAs(t, u, i, "--dest-creds", "alice:wonder"); err != nil {
				t.Fatal(err)
			}
			p.wantPushed(t, u, i, h, "Authorization", basic("alice", "wonder"))
			if a := p.get(t, repo(u.prefix+i.Repo())+"/manifests/"+i.Digest.String()); a.StatusCode != http.StatusUnauthorized {
				t.Errorf("nobody pulls what alice pushed: %d", a.StatusCode)
			}
		})
	}
}
