package storage_test

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestCheckOfOtherFiles has something else than a file under a blob's name: nobody
// waits for it, and a repair puts it aside.
func TestCheckOfOtherFiles(t *testing.T) {
	for name, put := range map[string]func(file string) error{
		"named pipe": func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"folder":     func(file string) error { return os.Mkdir(file, 0o700) },
		"link":       func(file string) error { return os.Symlink("nowhere", file) },
	} {
		for _, read := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t, t.TempDir(), nil, storage.Options{})
				d := r.mustPut(kb("blob", 3), storage.KindBlob, storage.Durable)
				r.disk.Renew(d)
				if err := os.Remove(r.file(d)); err != nil {
					t.Fatal(err)
				}
				if err := put(r.file(d)); err != nil {
					t.Fatal(err)
				}
				if read {
					r.wantAbsent("what is no file", d)
				} else if found, _ := r.check(true); len(found) != 1 || !slices.Contains([]string{"corrupt " + d.String(), "missing " + d.String()}, found[0]) {
					t.Errorf("found %q, want one problem with %s", found, d)
				}
				if found, _ := r.check(true); len(found) > 0 {
					t.Errorf("found %q afterwards", found)
				}
				if got := r.mustPut(kb("blob", 3), storage.KindBlob, storage.Durable); got != digest.FromBytes(kb("blob", 3)) {
					t.Error(got)
				}
				r.wantServed("what came again", d)
			})
		}
	}
}
