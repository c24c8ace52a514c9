package wild

import (
	"strings"
	"testing"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestNerdctl: nerdctl pulls an image by the proxy's name, runs it, and pushes it to
// a hosted namespace.
func TestNerdctl(t *testing.T) {
	p := startProxy(t)
	n := startNode(t, NodeOptions{})
	ref, pushed := p.Addr+"/up/"+suite.image.Ref(), p.Addr+"/local/nerdctl:1"
	nerdctl := func(args ...string) string {
		t.Helper()
		out, err := harness.Run(t.Context(), suite.nodes.path("nerdctl"), append([]string{
			"--address", n.path("c.sock"), "--namespace", n.namespace, "--data-root", n.path("nerdctl"), "--cni-netconfpath", n.path("cni"),
			"--cni-path", n.path("cni"), "--hosts-dir", n.path("certs.d"), "--cgroup-manager", "cgroupfs", "--insecure-registry", "--snapshotter", Plain,
		}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	nerdctl("pull", "--quiet", ref)
	if out := nerdctl("run", "--rm", "--network", "none", ref); out != realimage.StartOutput {
		t.Errorf("nerdctl run: %q", out)
	}
	nerdctl("tag", ref, pushed)
	nerdctl("push", "--quiet", pushed)
	out, err := harness.Run(t.Context(), suite.programs.Crane, "manifest", "--insecure", pushed)
	if err != nil || !strings.Contains(string(out), suite.image.Layers[0].Digest.String()) {
		t.Errorf("what nerdctl pushed: %s, %v", out, err)
	}
}
