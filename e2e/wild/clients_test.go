package wild

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

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

// TestDockerCommands: what Docker's command line does by itself, without an
// engine: it inspects an image, and makes and pushes a manifest list.
func TestDockerCommands(t *testing.T) {
	p := startProxy(t)
	dir := t.TempDir()
	docker := func(args ...string) string {
		t.Helper()
		out, err := harness.Run(t.Context(), suite.nodes.path("docker"), append([]string{"--config", dir, "--host", "unix://" + dir + "/none"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	image := pushDocker(t)
	out := docker("manifest", "inspect", "--insecure", "--verbose", p.Addr+"/up/"+suite.image.Repo()+":docker")
	if !strings.Contains(out, image.String()) || !strings.Contains(out, suite.image.Layers[1].Digest.String()) {
		t.Errorf("docker manifest inspect: %s", out)
	}
	if _, err := harness.Run(t.Context(), suite.programs.Crane, "copy", "--insecure", p.Addr+"/up/"+suite.image.Repo()+":docker", p.Addr+"/local/app:1"); err != nil {
		t.Fatal(err)
	}
	list := p.Addr + "/local/app:all"
	docker("manifest", "create", "--insecure", list, p.Addr+"/local/app:1")
	docker("manifest", "push", "--insecure", list)
	if out = docker("manifest", "inspect", "--insecure", list); !strings.Contains(out, image.String()) {
		t.Errorf("the manifest list that docker pushed: %s", out)
	}
}

// pushDocker pushes an image of one layer as Docker made them before OCI, which
// is what Debian's docker knows.
func pushDocker(t *testing.T) digest.Digest {
	t.Helper()
	type descriptor struct {
		MediaType string        `json:"mediaType"`
		Size      int64         `json:"size"`
		Digest    digest.Digest `json:"digest"`
	}
	layer, config := suite.image.Layers[1], suite.set.Path(suite.image.Config)
	info, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": string(types.DockerManifestSchema2),
		"config": descriptor{string(types.DockerConfigJSON), info.Size(), suite.image.Config},
		"layers": []descriptor{{string(types.DockerLayer), layer.Size, layer.Digest}},
	})
	p := &pusher{ctx: t.Context(), repo: suite.registry.Addr + "/" + suite.image.Repo(), err: err}
	p.manifest("docker", string(types.DockerManifestSchema2), body)
	if p.err != nil {
		t.Fatal(p.err)
	}
	return digest.FromBytes(body)
}

// TestPodmanRuns: podman pulls through a mirror of registries.conf, which puts
// our prefix in place of the registry's name, and runs the image, and its converted
// form as well.
func TestPodmanRuns(t *testing.T) {
	p := startProxy(t)
	run := podman(t, fmt.Sprintf(`[[registry]]
location = "registry.test"
[[registry.mirror]]
location = "%s/up"
insecure = true
`, p.Addr))
	for _, tag := range []string{"", "-soci"} {
		out, err := run("run", "--rm", "--quiet", "--runtime", "runc", "--network", "none",
			"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "registry.test/"+suite.image.Ref()+tag)
		if err != nil || out != realimage.StartOutput {
			t.Errorf("podman run %s%s: %q, %v", suite.image.Ref(), tag, out, err)
		}
		p.awaitConverted(t)
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
