package wild

import (
	"strings"
	"testing"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestNerdctl: nerdctl pulls an image by the proxy's name, runs it, and pushes it to
// a hosted namespace; and on another node it starts the image lazily.
func TestNerdctl(t *testing.T) {
	p := startProxy(t)
	n := startNode(t, NodeOptions{})
	ref, pushed := p.Addr+"/up/"+suite.image.Ref(), p.Addr+"/local/nerdctl:1"
	n.nerdctl(t, Plain, "pull", "--quiet", ref)
	if out := n.nerdctl(t, Plain, "run", "--rm", "--network", "none", ref); out != realimage.StartOutput {
		t.Errorf("nerdctl run: %q", out)
	}
	n.nerdctl(t, Plain, "tag", ref, pushed)
	n.nerdctl(t, Plain, "push", "--quiet", pushed)
	out, err := harness.Run(t.Context(), suite.programs.Crane, "manifest", "--insecure", pushed)
	if err != nil || !strings.Contains(string(out), suite.image.Layers[0].Digest.String()) {
		t.Errorf("what nerdctl pushed: %s, %v", out, err)
	}

	p.awaitIndex(t)
	onNode(t, NodeOptions{V1: true}, func(n *Node) {
		if out := n.nerdctl(t, Lazy, "run", "--network", "none", p.ref()); out != realimage.StartOutput {
			t.Errorf("nerdctl --snapshotter soci run: %q", out)
		}
		wantLazy(t, n)
		if lazy := p.down.Bytes(); lazy > imageSize()/3 {
			t.Errorf("the start took %d bytes, of an image of %d", lazy, imageSize())
		}
	})
}

// nerdctl runs it against the node, and returns what it wrote to stdout.
func (n *Node) nerdctl(t *testing.T, snapshotter string, args ...string) string {
	t.Helper()
	out, err := harness.Run(t.Context(), n.programs.path("nerdctl"), append([]string{
		"--address", n.path("c.sock"), "--namespace", n.namespace, "--data-root", n.path("nerdctl"), "--cni-netconfpath", n.path("cni"),
		"--cni-path", n.path("cni"), "--hosts-dir", n.path("certs.d"), "--cgroup-manager", "cgroupfs", "--insecure-registry", "--snapshotter", snapshotter,
	}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
