// Package docs runs the commands of the documentation: every block marked sh of
// every page, in their order, in one shell a page, against a server of its own.
package docs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sociable/sociable/e2e/harness"
)

var programs harness.Programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "docs-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := find(dir); err != nil {
			fmt.Fprintln(os.Stderr, "docs:", err)
			return 1
		}
		return m.Run()
	}())
}

// find puts sociable and crane into one folder, as a reader has them in the path.
func find(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := func(module, pkg string) (string, error) {
		out := filepath.Join(dir, filepath.Base(pkg))
		return out, harness.GoBuild(ctx, module, pkg, out)
	}
	var errs [3]error
	if given := os.Getenv("E2E_SOCIABLE"); given != "" {
		programs.Sociable = filepath.Join(dir, "sociable")
		errs[0] = os.Symlink(given, programs.Sociable)
	} else {
		programs.Sociable, errs[0] = build(filepath.Join("..", ".."), "./cmd/sociable")
	}
	programs.Crane, errs[1] = build("..", "github.com/google/go-containerregistry/cmd/crane")
	programs.Skopeo, errs[2] = exec.LookPath("skopeo")
	return errors.Join(errs[:]...)
}

// TestPages runs each page that has something to run.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	hub := startHub(t)
	ran := 0
	for _, page := range pages {
		script := commands(t, page)
		if script == "" {
			continue
		}
		ran++
		t.Run(filepath.Base(page), func(t *testing.T) { runPage(t, hub, script) })
	}
	if ran < 3 {
		t.Errorf("%d pages have commands to run", ran)
	}
}

// commands are a page's blocks marked sh, each with a line that tells where it stands.
func commands(t *testing.T, page string) string {
	t.Helper()
	body, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	inside := false
	for n, line := range strings.Split(string(body), "\n") {
		switch {
		case line == "```sh":
			inside = true
			fmt.Fprintf(&script, "echo '# %s:%d' >&2\n", filepath.Base(page), n+1)
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			script.WriteString(line + "\n")
		}
	}
	return script.String()
}

func runPage(t *testing.T, hub, script string) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "upstreams: {docker.io: {url: %q}}\n", hub), 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := harness.NewProxy(&programs, filepath.Join(dir, "data"), nil, "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Stop(); err != nil {
			t.Errorf("%v\n%s", err, x.Log())
		}
	}()
	// The page's addresses may be taken on this machine.
	script = strings.NewReplacer("127.0.0.1:5000", x.Addr, "127.0.0.1:5001", x.Admin).Replace(script)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = filepath.Join(dir, "work")
	if err := os.Mkdir(cmd.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(programs.Sociable)+":"+filepath.Dir(programs.Crane)+":"+os.Getenv("PATH"),
		"SOCIABLE_STORAGE_PATH="+x.Data, "SOCIABLE_PROXY="+x.Addr)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%v; the last line that begins with # tells which block\n%s", err, x.Log())
	}
}

// startHub is a registry that has library/redis:7, with a layer that is worth an index.
func startHub(t *testing.T) (url string) {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(srv.Close)
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	body := make([]byte, 12<<20)
	noise := rand.NewChaCha8([32]byte{7})
	_, _ = noise.Read(body) // never fails
	err := tw.WriteHeader(&tar.Header{Name: "data.bin", Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = tw.Write(body)
	}
	if err = errors.Join(err, tw.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), layer)
	if err == nil {
		img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	ref, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/library/redis:7")
	if err == nil {
		err = remote.WriteIndex(ref, idx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return srv.URL
}
