package wild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sociable/sociable/e2e/harness"
)

// Snapshotters of a Node.
const (
	Lazy  = "soci"      // soci-snapshotter, or where the node has it stargz-snapshotter: nerdctl goes by the name
	Plain = "overlayfs" // containerd's own: layers are pulled and unpacked
)

// Node is a machine of a cluster: containerd with soci-snapshotter, over empty
// state of its own.
type Node struct {
	programs    *Programs
	dir         string
	namespace   string
	containerd  *harness.Process
	snapshotter *harness.Process
	containers  atomic.Int64
}

// NodeOptions are what is said about a Node beyond its defaults.
type NodeOptions struct {
	V1       bool              // ask for SOCI v1 indexes, by the referrers API; otherwise v2 only
	Prefetch bool              // fetch what an index names as needed by starts
	Stargz   bool              // stargz-snapshotter in place of soci-snapshotter
	Hosts    map[string]string // hosts.toml by registry host
}

// StartNode starts a node. Close it.
func StartNode(ctx context.Context, programs *Programs, opt NodeOptions) (_ *Node, err error) {
	dir, err := os.MkdirTemp("", "wild-") // short: a socket's path has 108 bytes at most
	if err != nil {
		return nil, err
	}
	n := &Node{programs: programs, dir: dir, namespace: filepath.Base(dir)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	sociToml := fmt.Sprintf("[pull_modes.soci_v1]\nenable = %t\n[prefetch]\nenable = %t\n", opt.V1, opt.Prefetch)
	files := map[string]string{"soci.toml": sociToml, "containerd.toml": fmt.Sprintf(containerdConfig, dir)}
	if err := os.Mkdir(n.path("certs.d"), 0o700); err != nil {
		return nil, err
	}
	for host, toml := range opt.Hosts {
		files[filepath.Join("certs.d", host, "hosts.toml")] = toml
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			return nil, err
		}
	}
	program, args := "snapshotter", []string{n.path("soci"), n.path("soci.sock"), n.path("soci.toml")}
	if opt.Stargz {
		program, args = "stargz", args[:2]
	}
	n.snapshotter, err = harness.Spawn(ctx, nil, programs.path(program), args...)
	if err != nil {
		return nil, err
	}
	if err := n.await(ctx, n.snapshotter, func() bool { _, err := os.Stat(n.path("soci.sock")); return err == nil }); err != nil {
		return nil, err
	}
	path := "PATH=" + programs.dir + string(os.PathListSeparator) + os.Getenv("PATH")
	n.containerd, err = harness.Spawn(ctx, []string{path}, programs.path("containerd"), "--config", n.path("containerd.toml"))
	if err != nil {
		return nil, err
	}
	return n, n.await(ctx, n.containerd, func() bool { _, err := n.Ctr(ctx, "version"); return err == nil })
}

// containerdConfig is for a folder: nothing of it is shared with the machine,
// and images are unpacked by either snapshotter.
const containerdConfig = `version = 3
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "%[1]s/c.sock"
[proxy_plugins.soci]
  type = "snapshot"
  address = "%[1]s/soci.sock"
  [proxy_plugins.soci.exports]
    root = "%[1]s/soci"
    enable_remote_snapshot_annotations = "true"
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "soci"
    differ = "walking"
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "overlayfs"
    differ = "walking"
`

func (n *Node) path(name string) string { return filepath.Join(n.dir, name) }

// await polls until ready, the process's end or half a minute.
func (n *Node) await(ctx context.Context, p *harness.Process, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-p.Exited():
			return fmt.Errorf("ended before it was ready\n%s", p.Log())
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w\n%s", context.Cause(ctx), p.Log())
		}
	}
	return nil
}

// Ctr runs ctr against the node and returns what it wrote to stdout.
func (n *Node) Ctr(ctx context.Context, args ...string) ([]byte, error) {
	return harness.Run(ctx, n.programs.path("ctr"), n.ctrArgs(args)...)
}

func (n *Node) ctrArgs(args []string) []string {
	return append([]string{"--address", n.path("c.sock"), "--namespace", n.namespace}, args...)
}

// Pull pulls an image over plain HTTP for a snapshotter.
func (n *Node) Pull(ctx context.Context, snapshotter, ref string) error {
	_, err := n.Ctr(ctx, "images", "pull", "--plain-http", "--hosts-dir", n.path("certs.d"), "--snapshotter", snapshotter, ref)
	return err
}

// Container is a container's one process.
type Container struct {
	node   *Node
	id     string
	cmd    *exec.Cmd
	stdout *firstOutput
	stderr bytes.Buffer
}

// Start runs a container of a pulled image: args, or if there are none what the
// image says. stdin may be nil.
func (n *Node) Start(ctx context.Context, snapshotter, ref string, stdin io.Reader, args ...string) (*Container, error) {
	c := &Container{node: n, id: n.namespace + "-" + strconv.FormatInt(n.containers.Add(1), 10), stdout: &firstOutput{}}
	run := []string{"run", "--rm", "--snapshotter", snapshotter, "--runc-root", n.path("runc"), ref, c.id}
	c.cmd = exec.CommandContext(ctx, n.programs.path("ctr"), n.ctrArgs(append(run, args...))...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = stdin, c.stdout, &c.stderr
	c.cmd.WaitDelay = 10 * time.Second
	return c, c.cmd.Start()
}

// Wait waits for the container's end and returns what it wrote to stdout. The
// error has what it wrote to stderr.
func (c *Container) Wait() (string, error) {
	err := c.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("container %s: %w\n%s", c.id, err, c.stderr.Bytes())
	}
	return c.stdout.String(), err
}

// FirstOutput is when the container's first byte of output came; zero: never.
func (c *Container) FirstOutput() time.Time { return c.stdout.at() }

// Run is Start and Wait.
func (n *Node) Run(ctx context.Context, snapshotter, ref string, args ...string) (string, error) {
	c, err := n.Start(ctx, snapshotter, ref, nil, args...)
	if err != nil {
		return "", err
	}
	return c.Wait()
}

// LazyMounts is how many layers are FUSE mounts.
func (n *Node) LazyMounts() (int, error) {
	mounts, err := n.mounts()
	count := 0
	for _, m := range mounts {
		if strings.HasPrefix(m.kind, "fuse") {
			count++
		}
	}
	return count, err
}

type mount struct{ path, kind string }

// mounts are those in the node's folder, the latest first.
func (n *Node) mounts() ([]mount, error) { return mountsBelow(n.dir) }

// mountsBelow are the mounts in a folder, the latest first.
func mountsBelow(dir string) ([]mount, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var ms []mount
	for line := range strings.Lines(string(table)) {
		left, right, _ := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			ms = append([]mount{{fields[4], strings.Fields(right)[0]}}, ms...)
		}
	}
	return ms, nil
}

// Log is what the node's programs wrote.
func (n *Node) Log() string {
	var b strings.Builder
	for _, p := range []*harness.Process{n.containerd, n.snapshotter} {
		if p != nil {
			b.WriteString(p.Log())
		}
	}
	return b.String()
}

// Close ends the containers and the node, unmounts and removes all it had.
func (n *Node) Close() error {
	errs := []error{n.killTasks(), n.killShims()}
	for _, p := range []*harness.Process{n.containerd, n.snapshotter} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(append(errs, removeMounted(n.dir))...)
}

// removeMounted unmounts what is mounted in a folder and removes that.
func removeMounted(dir string) error {
	mounts, err := mountsBelow(dir)
	errs := []error{err}
	for _, m := range mounts {
		errs = append(errs, syscall.Unmount(m.path, syscall.MNT_DETACH))
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

// killTasks kills the containers' processes.
func (n *Node) killTasks() error {
	if n.containerd == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ids, err := n.Ctr(ctx, "tasks", "list", "--quiet")
	errs := []error{err}
	for id := range strings.FieldsSeq(string(ids)) {
		_, err := n.Ctr(ctx, "tasks", "delete", "--force", id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// killShims ends the containers' shims, which are nobody's children.
func (n *Node) killShims() error {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range procs {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte("\x00"+n.namespace+"\x00")) || !bytes.Contains(line, []byte("containerd-shim")) {
			continue // it is gone, or another's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("kill shim %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}
