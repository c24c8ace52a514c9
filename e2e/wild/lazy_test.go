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
// it, read by the container, is what the layers' tars hold. To a node that knows
// nothing of SOCI the converted image is the same as the image.
func TestLazy(t *testing.T) {
	p := startProxy(t)
	onNode(t, NodeOptions{}, func(n *Node) {
		start(t, n, Plain, p.ref())
		p.awaitConverted(t)
		start(t, n, Plain, p.ref()+"-soci")
	})
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
			wantLazy(t, node)
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
	p.await(t, "an index of the image", func() bool {
		list, err := p.Indexes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(i harness.Index) bool { return i.Index != "" })
	})
}

// awaitConverted waits until the converted image is at its tag.
func (p *proxy) awaitConverted(t *testing.T) {
	t.Helper()
	url := "http://" + p.Addr + "/v2/up/" + suite.image.Repo() + "/manifests/1-soci"
	p.await(t, "the converted image", func() bool {
		_, err := get(t.Context(), url, "")
		return err == nil
	})
}

// await polls, half a minute at most.
func (p *proxy) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within half a minute: %s", what)
		}
	}
}
