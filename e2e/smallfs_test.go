//go:build smallfs

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestDiskFull runs over a real file system that is smaller than what is pulled:
// within the limits that the server sets itself, and without any, so that the
// kernel says that it is full. It mounts one, which takes root.
func TestDiskFull(t *testing.T) {
	for name, env := range map[string][]string{
		"within limits":  nil,
		"without limits": {"SOCIABLE_STORAGE_MAX_BYTES=1GiB", "SOCIABLE_STORAGE_MIN_FREE=0"},
	} {
		t.Run(name, func(t *testing.T) {
			data := smallFS(t)
			l := startLink(t, suite.Registry.URL(), link.Options{})
			x, err := harness.NewProxy(suite.Programs, data, []string{upstream + "=" + l.URL()})
			if err != nil {
				t.Fatal(err)
			}
			x.Env = env
			p := &proxy{x, l}
			p.start(t)
			t.Cleanup(func() {
				if err := x.Stop(); err != nil {
					t.Errorf("stop sociable: %v", err)
				}
				if m := crashMark.FindString(x.Log()); m != "" {
					t.Errorf("sociable's log holds %q", m)
				}
			})
			blobs := map[digest.Digest]string{}
			for range 2 { // the second time some of it is there
				for _, name := range []string{realimage.ImageToolchain, realimage.ImageSmall, realimage.ImageCrumbs} {
					i := image(t, name)
					p.get(t, manifestPath(i.Repo(), "1"))
					for _, d := range i.Blobs() {
						blobs[d] = blobPath(i.Repo(), d)
						if _, err := p.download(t.Context(), blobs[d], d); err != nil {
							t.Errorf("%s of %s: %v", d, name, err)
						}
					}
				}
			}
			m, err := p.Metrics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if env != nil && m["sociable_storage_medium_full_evictions_total"] == 0 {
				t.Error("a medium that is full before its limit had nothing evicted")
			}
			if m["sociable_proxy_passed_through_total"] == 0 {
				t.Error("nothing was counted as passed on")
			}
			if !strings.Contains(x.Log(), "passed on without being kept") {
				t.Error("the log does not say that something was passed on")
			}
			p.Kill()
			if err := os.Remove(filepath.Join(data, ballast)); err != nil {
				t.Fatal(err)
			}
			p.start(t)
			if _, found, err := p.Fsck(t.Context()); err != nil {
				t.Error(err)
			} else {
				for _, f := range found {
					if f.Kind == "corrupt" || f.Kind == "missing" {
						t.Errorf("fsck: %+v", f)
					}
				}
			}
			for d, path := range blobs {
				if _, err := p.download(t.Context(), path, d); err != nil {
					t.Errorf("%s, with more room: %v", d, err)
				}
			}
		})
	}
}

// ballast is another program's file in the store's file system.
const ballast = "ballast"

// smallFS mounts a file system of 48 MiB with a file of 16 MiB in it.
func smallFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=48m"); err != nil {
		t.Fatalf("mount a small file system (as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, ballast), make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
