package wild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ContainerdVersion is the version of containerd, its shim and ctr.
const ContainerdVersion = "v2.4.2"

// Programs are the paths of what a node is made of.
type Programs struct {
	dir string // of containerd, its shim and ctr
}

// BuildPrograms installs containerd, and builds the snapshotters, nerdctl and
// BuildKit, into dir. What
// is there already takes seconds.
func BuildPrograms(ctx context.Context, dir string) (*Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("runc"); err != nil {
		return nil, errors.New("runc is missing: install Debian's package runc")
	}
	const containerd = "github.com/containerd/containerd/v2/cmd/"
	install := []string{"install"}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		install = append(install, containerd+name+"@"+ContainerdVersion)
	}
	for _, args := range [][]string{
		install,
		{"build", "-o", filepath.Join(dir, "snapshotter"), "./snapshotter"},
		{"build", "-C", "stargz", "-o", filepath.Join(dir, "stargz"), "."},
		{"build", "-C", "nerdctl", "-o", filepath.Join(dir, "nerdctl"), "github.com/containerd/nerdctl/cmd/nerdctl"},
		{"build", "-C", "buildkit", "-o", dir + "/", "github.com/moby/buildkit/cmd/buildkitd", "github.com/moby/buildkit/cmd/buildctl"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "GOBIN="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	return &Programs{dir: dir}, fetchDocker(ctx, dir)
}

// fetchDocker puts Docker's command line into dir, out of Debian's package; that
// is not installed, for it would start an engine.
func fetchDocker(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "docker")); err == nil {
		return nil
	}
	work, err := os.MkdirTemp(dir, "docker-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, "sh", "-ec", "apt-get -qq update; apt-get -qq download docker.io; dpkg-deb -x docker.io_*.deb .; mv usr/bin/docker ..")
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch Debian's docker.io: %w\n%s", err, out)
	}
	return nil
}

func (p *Programs) path(name string) string { return filepath.Join(p.dir, name) }
