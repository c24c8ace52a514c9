package faulty

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
)

var programs harness.Programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		programs.Sociable = os.Getenv("E2E_SOCIABLE")
		if programs.Sociable == "" {
			dir, err := os.MkdirTemp("", "faulty-")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			programs.Sociable = filepath.Join(dir, "sociable")
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "go", "build", "-o", programs.Sociable, "./cmd/sociable")
			cmd.Dir = filepath.Join("..", "..")
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// startProxy runs sociable with a configuration.
func startProxy(t *testing.T, config string, upstreams ...string) *harness.Proxy {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := harness.NewProxy(&programs, filepath.Join(dir, "data"), upstreams, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if log := x.Log(); strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
			t.Errorf("sociable's log:\n%s", log)
		}
	})
	return x
}

func startLink(t *testing.T, url string) *link.Link {
	t.Helper()
	l, err := link.Start(url, link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// caFile has the certificate of the registry's TLS server.
func caFile(t *testing.T, r *Registry) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Server().Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
