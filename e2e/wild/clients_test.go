package wild

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestContainerdMirror: containerd pulls an image under its own registry's name
// through hosts.toml, saying which registry it means (ns=), while that is not to
// be reached; and pushes it under a name of ours.
func TestContainerdMirror(t *testing.T) {
	p := startProxy(t)
	n := startNode(t, NodeOptions{Hosts: map[string]string{"up": fmt.Sprintf(`server = "http://127.0.0.1:9"
[host."http://%s"]
capabilities = ["pull", "resolve"]
`, p.down.Addr())}})
	ref := "up/" + suite.image.Ref()
	start(t, n, Plain, ref)
	for _, r := range p.down.Requests() {
		if !strings.Contains(r.Query, "ns=up") {
			t.Errorf("%s %s came with %q, want ns=up", r.Method, r.Path, r.Query)
		}
	}
	p.awaitIndex(t)

	pushed := p.Addr + "/local/pushed:1"
	for _, args := range [][]string{
		{"images", "tag", ref, pushed},
		{"images", "push", "--plain-http", pushed},
		{"images", "remove", "--sync", ref, pushed},
		{"content", "prune", "references"},
	} {
		if _, err := n.Ctr(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	start(t, n, Plain, pushed)
}

// TestPodmanRuns: podman pulls through a mirror of registries.conf, which puts
// our prefix in place of the registry's name, and runs the image.
func TestPodmanRuns(t *testing.T) {
	p := startProxy(t)
	run := podman(t, fmt.Sprintf(`[[registry]]
location = "registry.test"
[[registry.mirror]]
location = "%s/up"
insecure = true
`, p.Addr))
	out, err := run("run", "--rm", "--quiet", "--runtime", "runc", "--network", "none",
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "registry.test/"+suite.image.Ref())
	if err != nil || out != realimage.StartOutput {
		t.Errorf("podman run: %q, %v", out, err)
	}
}

// podman runs it over a store, and with a registries.conf, of the test's own.
func podman(t *testing.T, registries string) func(args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/registries.conf", registries)
	t.Setenv("CONTAINERS_REGISTRIES_CONF", dir+"/registries.conf")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() { // it mounts that on itself
		if err := syscall.Unmount(dir+"/root/overlay", syscall.MNT_DETACH); err != nil && err != syscall.EINVAL { // it is not, any more
			t.Error(err)
		}
	})
	return func(args ...string) (string, error) {
		out, err := harness.Run(t.Context(), suite.programs.Podman, append([]string{
			"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
		}, args...)...)
		return string(out), err
	}
}
