package door

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
)

// podman has a store of its own below its folder. It would pack what it pushes
// anew: others push.
type podman string

// newPodman takes a folder with a short name: podman wants one.
func newPodman(t *testing.T) client {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") //nolint:usetesting // its names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return podman(dir)
}

func (p podman) run(ctx context.Context, args ...string) (string, error) {
	dir := string(p)
	all := append([]string{
		"XDG_RUNTIME_DIR=" + dir, "TMPDIR=" + dir, "REGISTRY_AUTH_FILE=" + filepath.Join(dir, "auth.json"), programs.Podman,
		"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs",
	}, args...)
	out, err := harness.Run(ctx, "env", all...)
	return strings.TrimSpace(string(out)), err
}

func (p podman) login(ctx context.Context, addr, user, password string) error {
	_, err := p.run(ctx, "login", "--tls-verify=false", "-u", user, "-p", password, addr)
	return err
}

func (p podman) push(context.Context, image, string) error {
	return fmt.Errorf("podman does not push here")
}

func (p podman) pull(ctx context.Context, ref string) (digest.Digest, error) {
	if _, err := p.run(ctx, "pull", "--quiet", "--tls-verify=false", ref); err != nil {
		return "", err
	}
	out, err := p.run(ctx, "image", "inspect", "--format", "{{.Digest}}", ref)
	return digest.Digest(out), err
}

// TestPullers has podman, skopeo, crane and containerd log in and pull: from an
// upstream that decides itself about callers, and by passwords of ours. Nobody
// else is let in, whether what they ask for is here or not.
func TestPullers(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	write(t, users, htpasswd)
	private := startRegistry(t, fmt.Sprintf("auth:\n  htpasswd: {realm: up, path: %q}\n", users))
	p := startProxy(t, fmt.Sprintf(`upstreams: {up: {url: %q, access: passthrough}}
`, private.URL()))
	own := startProxy(t, fmt.Sprintf(`upstreams: {up: {url: %q, username: bob, password: %q}}
auth:
  htpasswd_file: %q
  rules: [{repositories: ["up/**"], pull: [alice]}]
`, private.URL(), passwords["bob"], users))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pusher, img := clients["crane"](t), newImage(t)
	if err := pusher.login(ctx, private.Addr, "alice", passwords["alice"]); err != nil {
		t.Fatal(err)
	}
	if err := pusher.push(ctx, img, private.Addr+"/team/app:1"); err != nil {
		t.Fatal(err)
	}
	pullers := map[string]func(*testing.T) client{"podman": newPodman}
	for kind, c := range clients {
		pullers[kind] = c
	}
	for door, addr := range map[string]string{"passthrough": p.Addr, "htpasswd": own.Addr} {
		for kind, newClient := range pullers {
			t.Run(door+"/"+kind, func(t *testing.T) {
				ref := addr + "/up/team/app:1"
				if got, err := newClient(t).pull(ctx, ref); err == nil {
					t.Errorf("nobody pulls: %s", got)
				}
				impostor := newClient(t)
				if err := impostor.login(ctx, addr, "alice", "wrong"); err == nil { // some find out when they pull
					if got, err := impostor.pull(ctx, ref); err == nil {
						t.Errorf("an impostor pulls: %s", got)
					}
				}
				alice := newClient(t)
				if err := alice.login(ctx, addr, "alice", passwords["alice"]); err != nil {
					t.Fatalf("alice logs in: %v", err)
				}
				for range 2 {
					if got, err := alice.pull(ctx, ref); err != nil || got != img.digest {
						t.Errorf("alice pulls: %s, %v", got, err)
					}
				}
			})
		}
	}
}
