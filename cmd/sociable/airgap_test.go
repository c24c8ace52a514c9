package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
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

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// shelf is an upstream with images.
type shelf struct {
	*httptest.Server
	config string // of a sociable that has it as "up" and indexes every layer
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{Server: httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))}
	t.Cleanup(s.Close)
	s.config = filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"\"}\nupstreams: {up: {url: %q}}\nindex: {rules: [{repositories: [\"**\"], min_layer_size: 10000, span_size: 64KiB}]}\n", s.URL)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shelf) ref(t *testing.T, word string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/" + word)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// layer is a gzip layer of one file of size random bytes.
func layer(t *testing.T, seed uint64, size int) ggcr.Layer {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	body := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, seed))
	for i := range body {
		body[i] = byte(r.Uint32()) & 0x3f
	}
	if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file-%d", seed), Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(buf.Bytes(), types.OCILayer)
}

// push puts an index with an image for each architecture there; the images share
// a small layer.
func (s *shelf) push(t *testing.T, word string, seed uint64, archs ...string) ggcr.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, arch := range archs {
		img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
		img, err := mutate.AppendLayers(img, static.NewLayer([]byte("not worth an index"), types.OCILayer), layer(t, seed+uint64(i), 900_000))
		if err != nil {
			t.Fatal(err)
		}
		img, err = mutate.ConfigFile(img, &ggcr.ConfigFile{OS: "linux", Architecture: arch, RootFS: ggcr.RootFS{Type: "layers"}})
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: ggcr.Descriptor{Platform: &ggcr.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := remote.WriteIndex(s.ref(t, word), idx); err != nil {
		t.Fatal(err)
	}
	return idx
}

// runSociable runs the command and gives what it printed, and how it ended.
func runSociable(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sociable", args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	_ = cmd.Run() // the code says it
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is runSociable for what has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := runSociable(t, "", args...)
	if code != 0 {
		t.Fatalf("sociable %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

func decodeJSON[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

type warmAnswer struct {
	Images  []warmed  `json:"images"`
	Ignored []ignored `json:"ignored"`
}

// TestWarm brings images to a store, through a server and without one.
func TestWarm(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("live %t", live), func(t *testing.T) {
			s := newShelf(t)
			s.push(t, "acme/app:1", 1, "amd64", "arm64")
			s.push(t, "acme/tool:1", 5, "amd64")
			data := filepath.Join(t.TempDir(), "data")
			flags := []string{"--data", data, "--config", s.config}
			if live {
				srv := startServer(t, "--config", s.config)
				flags = []string{"--data", srv.dir}
			}
			manifest := "kind: Pod\nspec:\n  containers:\n  - image: up/acme/app:1\n  initContainers:\n  - image: up/acme/tool:1\n  - image: '{{ .x }}'\n"
			args := append([]string{"warm", "-f", "-", "-p", "linux/amd64", "--json"}, flags...)
			out, errs, code := runSociable(t, manifest, args...)
			got := decodeJSON[warmAnswer](t, out)
			if code != 1 || len(got.Images) != 3 || !strings.HasPrefix(got.Images[2].Error, "-:7: spec.initContainers[1].image: ") {
				t.Fatalf("exit code %d, %+v\n%s", code, got, errs)
			}
			if fresh := "no server runs and no store is in " + data + ": a new one is made there, with " + s.config; strings.Contains(errs, fresh) == live {
				t.Errorf("with a server: %t, it says %q", live, errs)
			}
			got.Images = got.Images[:2]
			for _, r := range got.Images {
				if r.Error != "" || !r.Pinned || r.Layers != 1 || r.Blobs != 5 || r.Fetched < r.Bytes-1000 || len(r.Platforms) != 1 {
					t.Errorf("%+v", r)
				}
			}
			list := decodeJSON[[]IndexInfo](t, must(t, append([]string{"index", "list", "--json"}, flags[:2]...)...))
			for _, x := range list {
				if x.Index == "" {
					t.Errorf("%s has no index: %+v", x.Manifest, x)
				}
			}
			if len(list) != 2 {
				t.Errorf("%d images are indexed, want 2", len(list))
			}
			out, errs, code = runSociable(t, manifest, args...)
			again := decodeJSON[warmAnswer](t, out)
			if strings.Contains(errs, "a new one is made") {
				t.Errorf("there is a store: %s", errs)
			}
			if code != 1 || again.Images[0].Fetched+again.Images[1].Fetched != 0 {
				t.Errorf("again: exit code %d, %+v\n%s", code, again, errs)
			}
			out, errs, code = runSociable(t, "", append([]string{"warm", "up/acme/app:1", "up/acme/none:1", "up/acme/tool:1", "-p", "linux/arm64"}, flags...)...)
			for _, want := range []string{"up/acme/app:1 ", "here, pinned", "failed: tag 1 is not known in up/acme/none", "failed: up/acme/tool has no image for linux/arm64; it has linux/amd64"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			if code != 1 || !strings.Contains(errs, "sociable: 2 of 3 images failed") {
				t.Errorf("exit code %d\n%s", code, errs)
			}
		})
	}
}
