package realimage

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// apt resolves and fetches packages as for an empty system, with state and
// cache under dir: the machine's own package state is neither read nor written,
// only its sources and keys.
type apt struct{ dir string }

// update fetches the package lists.
func (a apt) update(ctx context.Context) error {
	for _, d := range []string{"lists/partial", "archives/partial", "none/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644); err != nil {
		return err
	}
	_, err := a.run(ctx, "update")
	return err
}

// resolve lists the packages that installing names onto an empty system takes,
// as package name to file name.
func (a apt) resolve(ctx context.Context, names []string) (map[string]string, error) {
	// What the cache holds is not printed: so an empty one is named.
	none, err := filepath.Abs(filepath.Join(a.dir, "none"))
	if err != nil {
		return nil, err
	}
	args := []string{"-o", "Dir::Cache::archives=" + none, "install", "--print-uris"}
	out, err := a.run(ctx, append(args, names...)...)
	if err != nil {
		return nil, err
	}
	debs := map[string]string{}
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		if fields := strings.Fields(sc.Text()); len(fields) >= 3 && strings.HasPrefix(fields[0], "'") {
			name, _, _ := strings.Cut(fields[1], "_")
			debs[name] = fields[1]
		}
	}
	if len(debs) == 0 {
		return nil, fmt.Errorf("apt-get lists no files for %s", strings.Join(names, " "))
	}
	return debs, nil
}

// download fetches what resolve listed for names, verified by apt, and returns
// the folder that it is in.
func (a apt) download(ctx context.Context, names []string) (string, error) {
	_, err := a.run(ctx, append([]string{"install", "--download-only"}, names...)...)
	return filepath.Join(a.dir, "archives"), err
}

func (a apt) run(ctx context.Context, args ...string) ([]byte, error) {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return nil, err
	}
	opts := []string{
		"-q", "-y", "--no-install-recommends",
		"-o", "Dir::State=" + dir,
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::State::status=" + filepath.Join(dir, "status"),
		"-o", "Dir::Cache=" + dir,
		"-o", "Dir::Cache::archives=" + filepath.Join(dir, "archives"),
		"-o", "APT::Sandbox::User=",
		"-o", "Debug::NoLocking=1",
		"-o", "Acquire::Retries=3",
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(opts, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}
