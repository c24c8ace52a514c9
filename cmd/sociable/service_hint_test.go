package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServiceHint: who looks into a folder without a store is told of the service's,
// where there is one.
func TestServiceHint(t *testing.T) {
	dir := t.TempDir()
	service := filepath.Join(dir, "service")
	if hint := serviceHint("./data", service); hint != "" {
		t.Errorf("without a service: %q", hint)
	}
	if err := os.Symlink(filepath.Join(dir, "private"), service); err != nil { // as systemd's DynamicUser has it
		t.Fatal(err)
	}
	if hint := serviceHint("./data", service); !strings.Contains(hint, "--data "+service) {
		t.Errorf("with one: %q", hint)
	}
	if hint := serviceHint(service+"/", service); hint != "" {
		t.Errorf("of itself: %q", hint)
	}
}

// TestServesInstead: the service's store is taken only where there is none, nor what
// is left of one.
func TestServesInstead(t *testing.T) {
	none, lost, service := t.TempDir(), t.TempDir(), t.TempDir()
	putFile(t, filepath.Join(service, metaFile), "")
	if err := os.Mkdir(filepath.Join(lost, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dir, service string
		want         bool
	}{
		{none, service, true}, {filepath.Join(none, "data"), service, true}, {none, none, false}, {lost, service, false}, {service, service, false},
	} {
		if got := servesInstead(tt.dir, tt.service); got != tt.want {
			t.Errorf("%s, %s: %v", tt.dir, tt.service, got)
		}
	}
}

// TestStoreByEnvironment: every command finds the store where the environment says,
// those for which a server has to run, too.
func TestStoreByEnvironment(t *testing.T) {
	s := startServer(t, "--admin", "127.0.0.1:"+freePort(t))
	t.Setenv("SOCIABLE_STORAGE_PATH", s.dir)
	for _, args := range [][]string{{"admin", "token"}, {"config", "reload"}, {"pins"}} {
		if out, code := sociable(t, args...); code != 0 {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
}

// TestImportNothing: no store is made for a bundle that there is none.
func TestImportNothing(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	out, code := sociable(t, "import", "--data", data, filepath.Join(t.TempDir(), "nope"))
	if code != exitFailed || !strings.Contains(out, "no such file") {
		t.Errorf("%d %s", code, out)
	}
	if _, err := os.Lstat(data); !os.IsNotExist(err) {
		t.Errorf("there is a store afterwards: %v", err)
	}
}

// TestStoreByConfiguration: every command finds the store of the configuration that
// it is told, and --data goes before that.
func TestStoreByConfiguration(t *testing.T) {
	s := startServer(t, "--admin", "127.0.0.1:"+freePort(t))
	file, wrong := filepath.Join(t.TempDir(), "config.yml"), filepath.Join(t.TempDir(), "wrong.yml")
	putFile(t, file, "storage:\n  path: "+s.dir+"\n")
	putFile(t, wrong, "storage:\n  pat: "+s.dir+"\n")
	absent := "sha256:" + strings.Repeat("0", 64)
	for _, args := range [][]string{
		{"admin", "token"}, {"config", "reload"}, {"pins"}, {"stats"}, {"fsck"}, {"gc", "--dry-run"}, {"jobs", "list"}, {"index", "list"},
		{"ztoc", "list"}, {"uploads"}, {"blocks"}, {"events", "list"}, {"missing"}, {"healthcheck"},
	} {
		if out, code := sociable(t, append(args, "-c", file)...); code != 0 {
			t.Errorf("%v: %d %s", args, code, out)
		}
		if out, code := sociable(t, append(args, "-c", wrong)...); code != 2 || !strings.Contains(out, wrong+":2") {
			t.Errorf("%v with a misspelt key: %d %s", args, code, out)
		}
		if _, code := sociable(t, append(args, "-c", file, "--data", t.TempDir())...); code == 0 {
			t.Errorf("%v: --data is not looked at", args)
		}
	}
	for _, args := range [][]string{{"purge", absent}, {"pin", "local/none:1"}, {"unpin", "local/none:1"}, {"refresh", "local/none:1"}} {
		if out, _ := sociable(t, append(args, "-c", file)...); strings.Contains(out, "no store") {
			t.Errorf("%v: %s", args, out)
		}
	}
}
