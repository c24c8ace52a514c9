package wild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
)

// TestBuildKit: BuildKit builds on an image that it has through a mirror of its
// configuration, pushes what it built and the cache of it to a hosted namespace,
// and, with nothing left of its own, goes on from both.
func TestBuildKit(t *testing.T) {
	p := startProxy(t)
	base := pushBase(t)
	b := startBuildKit(t, fmt.Sprintf(`[registry."registry.test"]
mirrors = ["%[1]s/up"]
[registry."%[1]s"]
http = true
`, p.down.Addr()))
	built, cache := p.down.Addr()+"/local/built:1", p.down.Addr()+"/local/cache:1"

	dockerfile := "FROM registry.test/" + base + "\nRUN python3 -c 'open(\"/made\", \"w\").write(str(6 * 7))'\n"
	b.build(t, dockerfile, "--output", "type=image,push=true,name="+built, "--export-cache", "type=registry,mode=max,ref="+cache)
	for _, r := range p.down.Requests(link.Blob()) {
		if r.Method == "GET" && r.Status/100 != 2 {
			t.Errorf("%s %s: %d", r.Method, r.Path, r.Status)
		}
	}
	if n, size := p.down.Bytes(link.Blob(suite.image.Layers[0].Digest)), suite.image.Layers[0].Size; n < size {
		t.Errorf("the base's first layer came with %d bytes of %d through the proxy", n, size)
	}

	b.prune(t)
	if log := b.build(t, dockerfile, "--import-cache", "type=registry,ref="+cache); !runCached.MatchString(log) {
		t.Errorf("RUN was not taken from the cache:\n%s", log)
	}
	b.prune(t)
	made := t.TempDir()
	b.build(t, "FROM "+built+" AS built\nFROM scratch\nCOPY --from=built /made /made\n", "--output", "type=local,dest="+made)
	if got, err := os.ReadFile(filepath.Join(made, "made")); err != nil || string(got) != "42" {
		t.Errorf("the image that was pushed has %q, %v", got, err)
	}
}

// runCached is how BuildKit tells that it had no need to run RUN.
var runCached = regexp.MustCompile(`(?m)^#\d+ \[2/2\] RUN .*\n#\d+ CACHED$`)

// buildKit is a BuildKit daemon of one test.
type buildKit struct {
	dir, addr string
	daemon    *harness.Process
}

// startBuildKit starts a daemon with the registries that its configuration names.
func startBuildKit(t *testing.T, registries string) *buildKit {
	t.Helper()
	dir, err := os.MkdirTemp("", "bk-") // short: a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	b := &buildKit{dir: dir, addr: "unix://" + dir + "/b.sock"}
	t.Cleanup(func() { b.close(t) })
	write(t, dir+"/buildkitd.toml", registries)
	b.daemon, err = harness.Spawn(suite.ctx, nil, suite.nodes.path("buildkitd"), "--config", dir+"/buildkitd.toml", "--root", dir+"/root",
		"--addr", b.addr, "--containerd-worker", "false", "--oci-worker-binary", "runc", "--oci-worker-snapshotter", "overlayfs",
		"--oci-worker-net", "host", "--otel-socket-path", dir+"/otel.sock", "--cdi-disabled")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		if _, err = b.ctl(t.Context(), "debug", "workers"); err == nil {
			return b
		}
		if time.Now().After(end) {
			t.Fatalf("buildkitd is not ready after half a minute: %v", err)
		}
	}
}

func (b *buildKit) ctl(ctx context.Context, args ...string) ([]byte, error) {
	return harness.Run(ctx, suite.nodes.path("buildctl"), append([]string{"--addr", b.addr}, args...)...)
}

// build builds a Dockerfile and returns how that went.
func (b *buildKit) build(t *testing.T, dockerfile string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/Dockerfile", dockerfile)
	cmd := exec.CommandContext(t.Context(), suite.nodes.path("buildctl"), append([]string{"--addr", b.addr, "build",
		"--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir}, args...)...)
	log, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("buildctl build: %v\n%s", err, log)
	}
	return string(log)
}

func (b *buildKit) prune(t *testing.T) {
	t.Helper()
	if _, err := b.ctl(t.Context(), "prune", "--all"); err != nil {
		t.Fatal(err)
	}
}

// pushBase pushes an image of Debian's essential packages and Python to the
// upstream and tells its name there.
func pushBase(t *testing.T) string {
	t.Helper()
	p := &pusher{ctx: t.Context(), repo: suite.registry.Addr + "/" + suite.image.Repo()} // which has the layers
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: v1.RootFS{Type: "layers"}}
	config.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range suite.image.Layers[:2] {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
	}
	p.image("base", m, config)
	if p.err != nil {
		t.Fatal(p.err)
	}
	return suite.image.Repo() + ":base"
}

// close ends the daemon, unmounts and removes all it had.
func (b *buildKit) close(t *testing.T) {
	t.Helper()
	if b.daemon != nil {
		if t.Failed() {
			t.Logf("buildkitd's log:\n%s", b.daemon.Log())
		}
		if err := b.daemon.Stop(); err != nil {
			t.Errorf("stop buildkitd: %v", err)
		}
	}
	if err := removeMounted(b.dir); err != nil {
		t.Error(err)
	}
}
