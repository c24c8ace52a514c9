package dashboard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestInBrowser runs flows.test.mjs against a proxy that has seen some use.
func TestInBrowser(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: install Debian's package chromium", err)
	}
	sociable := build(ctx, t)
	modules := install(ctx, t)
	w := newWorld(t, sociable)
	closed := loggedIn(t, sociable)
	run := exec.CommandContext(ctx, "node", "--test", "--test-reporter=spec", "flows.test.mjs")
	run.Env = append(os.Environ(),
		"DASHBOARD_URL=http://"+w.Admin, "DASHBOARD_CLOSED="+closed, "DASHBOARD_REGISTRY="+w.Addr,
		"DASHBOARD_IMAGE="+digestOf(t, w.redis), "DASHBOARD_OTHER="+digestOf(t, w.small), "DASHBOARD_MODULES="+modules, "DASHBOARD_CHROMIUM="+chromium)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// build gives the program: that of E2E_SOCIABLE, or a new one.
func build(ctx context.Context, t *testing.T) string {
	t.Helper()
	if given := os.Getenv("E2E_SOCIABLE"); given != "" {
		return given
	}
	out := filepath.Join(t.TempDir(), "sociable")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "./cmd/sociable")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return out
}

// install has npm install what package-lock.json says, once.
func install(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".cache", "npm"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	same := true
	for _, name := range []string{"package.json", "package-lock.json"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		have, _ := os.ReadFile(filepath.Join(dir, name)) // absent: it differs
		if string(have) != string(want) {
			same = false
			if err := os.WriteFile(filepath.Join(dir, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "axe-core", "axe.min.js")); err == nil && same {
		return modules
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return modules
}

// loggedIn starts a second proxy, whose admin listener other machines reach: there
// one logs in.
func loggedIn(t *testing.T, sociable string) string {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("wonderland"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), fmt.Appendf(nil, "alice:%s\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("auth:\n  htpasswd_file: %s/users\n  rules: [{repositories: [\"**\"], pull: [anonymous], administer: [alice]}]\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startClosed(t, sociable, dir)
}
