package wild

import (
	"slices"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestLazy: a plain pull through the proxy makes the index, and a node that comes
// after it starts the same image lazily, by either form of index. Every file of
// it, read by the container, is what the layers' tars hold.
func TestLazy(t *testing.T) {
	p := startProxy(t)
	start(t, startNode(t, NodeOptions{}), Plain, p.ref())
	p.awaitIndex(t)

	for _, tt := range []struct {
		name string
		v1   bool
		ref  string
	}{{"v1", true, p.ref()}, {"v2", false, p.ref() + "-soci"}} {
		t.Run(tt.name, func(t *testing.T) {
			node := startNode(t, NodeOptions{V1: tt.v1})
			p.down.Forget()
			p.up.Forget()
			took := start(t, node, Lazy, tt.ref)
			t.Logf("first output after %v, with %d bytes, of an image of %d", took, p.down.Bytes(), imageSize())
			if asked := p.up.Requests(); len(asked) > 0 && tt.v1 { // v2: whether the upstream has such a tag itself
				t.Errorf("the upstream was asked for %v", asked)
			}
			if mounted, err := node.LazyMounts(); err != nil || mounted != len(suite.image.Layers) {
				t.Errorf("%d layers are mounted lazily (%v), want all %d", mounted, err, len(suite.image.Layers))
			}
			if lazy := p.down.Bytes(); lazy > imageSize()/3 {
				t.Errorf("the start took %d bytes, of an image of %d", lazy, imageSize())
			}
			files, err := node.Run(t.Context(), Lazy, tt.ref, "python3", "-c", hashProgram)
			if err != nil {
				t.Fatal(err)
			}
			compareFiles(t, files)
			if n := p.up.Bytes(); n != 0 {
				t.Errorf("the upstream sent %d bytes", n)
			}
		})
	}
}

// imageSize is the sum of the layers.
func imageSize() (n int64) {
	for _, l := range suite.image.Layers {
		n += l.Size
	}
	return n
}

// start pulls and runs the image, compares its output and tells how long it took
// to the first byte of that.
func start(t *testing.T, n *Node, snapshotter, ref string) time.Duration {
	t.Helper()
	began := time.Now()
	if err := n.Pull(t.Context(), snapshotter, ref); err != nil {
		t.Fatal(err)
	}
	c, err := n.Start(t.Context(), snapshotter, ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.Wait(); err != nil || out != realimage.StartOutput {
		t.Fatalf("the container wrote %q, %v; want %q", out, err, realimage.StartOutput)
	}
	return c.FirstOutput().Sub(began)
}

// awaitIndex waits until the image's index is listed.
func (p *proxy) awaitIndex(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		list, err := p.Indexes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(list, func(i harness.Index) bool { return i.Index != "" }) {
			return
		}
	}
	t.Fatal("no index of the image after half a minute")
}
