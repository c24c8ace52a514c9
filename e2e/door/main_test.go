package door

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
)

var programs harness.Programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "door-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := find(dir); err != nil {
			fmt.Fprintln(os.Stderr, "door:", err)
			return 1
		}
		return m.Run()
	}())
}

// find builds or finds the programs that are run.
func find(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := func(module, pkg string) (string, error) {
		out := filepath.Join(dir, filepath.Base(pkg))
		return out, harness.GoBuild(ctx, module, pkg, out)
	}
	var errs [5]error
	if programs.Sociable = os.Getenv("E2E_SOCIABLE"); programs.Sociable == "" {
		programs.Sociable, errs[0] = build(filepath.Join("..", ".."), "./cmd/sociable")
	}
	programs.Crane, errs[1] = build("..", "github.com/google/go-containerregistry/cmd/crane")
	programs.Skopeo, errs[2] = exec.LookPath("skopeo")
	programs.DockerRegistry, errs[3] = exec.LookPath("docker-registry")
	programs.Podman, errs[4] = exec.LookPath("podman")
	return errors.Join(errs[:]...)
}

// startProxy runs sociable with a configuration.
func startProxy(t *testing.T, config string, env ...string) *harness.Proxy {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	write(t, file, config)
	x, err := harness.NewProxy(&programs, filepath.Join(dir, "data"), nil, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	x.Env = env
	if err := x.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if log := x.Log(); t.Failed() || strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
			t.Errorf("sociable's log:\n%s", log)
		}
	})
	return x
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until done, for half a minute at most.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("there is not, in half a minute: %s", what)
		}
	}
}
