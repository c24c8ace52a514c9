package wild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// suite is what all tests share.
var suite struct {
	ctx      context.Context // the life of processes
	cache    string          // folder that outlives a run
	nodes    *Programs
	programs *harness.Programs
	set      *realimage.Set
	image    realimage.Image
	registry *harness.Registry // Debian's docker-registry, with the image
}

func TestMain(m *testing.M) {
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "wild:", err)
		os.Exit(1)
	}
	os.Exit(run(m))
}

// entered is in the environment of a test in a mount namespace of its own.
const entered = "WILD_ENTERED"

// enter runs the test again in a mount namespace of its own: when the last of its
// processes is gone, so is every mount.
func enter() error {
	if os.Getenv(entered) != "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("these tests mount images, which takes root")
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("these tests mount images by FUSE: %w", err)
	}
	fuse.Close()
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a private mount namespace: %w", err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), entered+"=1"))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	suite.ctx = ctx
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "wild:", err)
		return 1
	}
	defer func() {
		if err := suite.registry.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "wild:", err)
		}
	}()
	return m.Run()
}

func prepare(ctx context.Context) (err error) {
	cache, err := filepath.Abs("../.cache")
	if err != nil {
		return err
	}
	suite.cache = cache
	if suite.nodes, err = BuildPrograms(ctx, "../../bin/wild"); err != nil {
		return err
	}
	if suite.programs, err = harness.Build(ctx, "..", filepath.Join(cache, "bin")); err != nil {
		return err
	}
	if suite.set, err = realimage.PrepareStart(ctx, cache); err != nil {
		return err
	}
	suite.image = suite.set.Images[realimage.ImageStart]
	if suite.registry, err = harness.StartRegistry(ctx, suite.programs.DockerRegistry, filepath.Join(cache, "registry-start")); err != nil {
		return err
	}
	return suite.set.Push(ctx, suite.registry.Addr, realimage.ImageStart)
}

// wire is the network that everything is measured over.
var wire = link.Options{Latency: 20 * time.Millisecond, BytesPerSecond: 50e6}

// proxy is a sociable of one test, between two links.
type proxy struct {
	*harness.Proxy
	up   *link.Link // to its upstream
	down *link.Link // from its clients
}

// startProxy runs sociable over an empty store, before the registry.
func startProxy(t *testing.T, args ...string) *proxy {
	t.Helper()
	return startProxyWith(t, nil, args...)
}

// ref is how clients behind the link name the image.
func (p *proxy) ref() string { return p.down.Addr() + "/up/" + suite.image.Ref() }

func startLink(t *testing.T, url string) *link.Link {
	t.Helper()
	l, err := link.Start(url, wire)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the link: %v", err)
		}
	})
	return l
}

// startNode starts a node that ends with the test.
func startNode(t *testing.T, opt NodeOptions) *Node {
	t.Helper()
	n, err := StartNode(suite.ctx, suite.nodes, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the node's log:\n%s", n.Log())
		}
		if err := n.Close(); err != nil {
			t.Errorf("close the node: %v", err)
		}
	})
	return n
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
