package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
)

// containers runs podman or buildah over a store of the test's own.
func containers(t *testing.T) func(program string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("TMPDIR", dir)
	if err := os.WriteFile(filepath.Join(dir, "auth.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "auth.json"))
	return func(program string, args ...string) (string, error) {
		all := append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)
		out, err := harness.Run(context.WithoutCancel(t.Context()), program, all...)
		return strings.TrimSpace(string(out)), err
	}
}

// TestPodmanAndBuildah builds an image with buildah and pushes it, and has podman
// list, pull, tag, push and pull it.
func TestPodmanAndBuildah(t *testing.T) {
	p := startProxy(t, link.Options{})
	run := containers(t)
	must := func(program string, args ...string) string {
		t.Helper()
		out, err := run(program, args...)
		if err != nil {
			t.Fatalf("%s %v: %v", filepath.Base(program), args, err)
		}
		return out
	}
	buildah, podman := suite.Programs.Buildah, suite.Programs.Podman
	body := make([]byte, 12<<20) // enough to be indexed
	_, _ = rand.NewChaCha8([32]byte{7}).Read(body)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	name := p.Addr + "/local/built/app"
	container := must(buildah, "from", "scratch")
	must(buildah, "copy", container, file, "/file")
	must(buildah, "commit", container, name+":1")
	digestFile := filepath.Join(t.TempDir(), "digest")
	must(buildah, "push", "--tls-verify=false", "--digestfile", digestFile, name+":1")
	pushed, err := os.ReadFile(digestFile)
	if err != nil {
		t.Fatal(err)
	}
	p.awaitHostedIndex(t, "/v2/local/built/app", digest.Digest(pushed))
	must(buildah, "rm", container)
	must(podman, "rmi", "--all", "--force")

	id := must(podman, "pull", "--quiet", "--tls-verify=false", name+":1")
	must(podman, "tag", id, name+":2")
	must(podman, "push", "--tls-verify=false", name+":2")
	for want, args := range map[string][]string{
		"NAME TAG " + name + " 1 " + name + " 2": {"search", "--list-tags", "--tls-verify=false", name},
		string(pushed):                           {"image", "inspect", "--format", "{{.Digest}}", name + ":1"},
	} {
		if got := strings.Join(strings.Fields(must(podman, args...)), " "); got != want {
			t.Errorf("podman %v: %q, want %q", args, got, want)
		}
	}
	must(podman, "rmi", "--all", "--force")
	if got := must(podman, "pull", "--quiet", "--tls-verify=false", name+":2"); got != id {
		t.Errorf("pulled %s, want %s", got, id)
	}
	// Neither has a command to delete from a registry.
	if _, err := harness.Run(t.Context(), suite.Programs.Skopeo, "delete", "--tls-verify=false", "docker://"+name+":2"); err != nil {
		t.Fatal(err)
	}
	must(podman, "rmi", "--all", "--force")
	if out, err := run(podman, "pull", "--quiet", "--tls-verify=false", name+":2"); err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("pulled after its deletion: %s, %v", out, err)
	}
}
