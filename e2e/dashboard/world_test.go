package dashboard

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
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
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sociable/sociable/e2e/harness"
)

// world is a proxy that has seen some use.
type world struct {
	*harness.Proxy
	redis v1.Image
	small v1.Image
}

// file is one of a layer; a size of -1 is a folder, and a name with .wh. removes.
type file struct {
	name string
	size int
}

// layer makes a gzip layer of files with bytes that differ with seed and do not
// compress.
func layer(t *testing.T, seed uint64, files []file) v1.Layer {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(f.size), ModTime: time.Unix(1_700_000_000, 0), Typeflag: tar.TypeReg}
		if f.size < 0 {
			h.Typeflag, h.Size, h.Mode = tar.TypeDir, 0, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, noise, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []io.Closer{w, z} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return static.NewLayer(out.Bytes(), types.OCILayer)
}

// image puts layers together as a build would.
func image(t *testing.T, layers map[string]v1.Layer, order ...string) v1.Image {
	t.Helper()
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	for _, by := range order {
		if err == nil {
			img, err = mutate.Append(img, mutate.Addendum{Layer: layers[by], History: v1.History{CreatedBy: by}, MediaType: types.OCILayer})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func manyFiles(dir string, n, size int) (list []file) {
	for i := range n {
		list = append(list, file{fmt.Sprintf("%s/%02d/lib%03d.so", dir, i%8, i), size + i%7*1000})
	}
	return list
}

// newWorld builds images, serves them from a registry, and uses them through a
// proxy: some are pulled, one is also started lazily, one job fails.
func newWorld(t *testing.T, sociable string) *world {
	t.Helper()
	upstream := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(upstream.Close)
	host := strings.TrimPrefix(upstream.URL, "http://")
	base := append([]file{{"etc", -1}, {"etc/os-release", 300}, {"etc/passwd", 1200}, {"etc/motd", 4000}, {"usr", -1}, {"usr/bin", -1}, {"usr/bin/env", 40_000}}, manyFiles("usr/lib", 400, 60_000)...)
	app := append([]file{
		{"etc/passwd", 1300}, {"etc/.wh.motd", 0}, {"usr/bin/redis-server", 3_000_000}, {"usr/lib/00/lib000.so", 70_000},
		{"usr/lib/01/.wh..wh..opq", 0}, {"srv/redis.conf", 90_000}, {"srv/<script>alert(1)</script>", 20},
	}, manyFiles("opt/modules", 160, 80_000)...)
	layers := map[string]v1.Layer{
		"ADD rootfs.tar.gz /":                      layer(t, 1, base),
		"RUN make install":                         layer(t, 2, app),
		"COPY docker-entrypoint.sh /usr/local/bin": layer(t, 3, []file{{"usr/local/bin/docker-entrypoint.sh", 900}}),
		"COPY worker /srv":                         layer(t, 4, append([]file{{"srv/worker", 200_000}}, manyFiles("srv/models", 150, 90_000)...)),
	}
	w := &world{redis: image(t, layers, "ADD rootfs.tar.gz /", "RUN make install", "COPY docker-entrypoint.sh /usr/local/bin")}
	push := func(ref string, img v1.Image) {
		t.Helper()
		if err := remote.Write(parse(t, host+"/"+ref), img); err != nil {
			t.Fatal(err)
		}
	}
	push("library/redis:7.2.4", w.redis)
	push("acme/worker:2026-11", image(t, layers, "ADD rootfs.tar.gz /", "COPY worker /srv"))
	w.small = image(t, layers, "COPY docker-entrypoint.sh /usr/local/bin")
	push("library/entrypoint:1", w.small)
	d, err := w.redis.Digest()
	if err != nil {
		t.Fatal(err)
	}
	attach(t, host, d, w.redis, "application/vnd.dev.cosign.artifact.sig.v1+json")
	attach(t, host, d, w.redis, "application/spdx+json")
	w.serve(t, sociable, upstream.URL)
	return w
}

func parse(t *testing.T, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(s, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// attach pushes an artifact that refers to the image.
func attach(t *testing.T, host string, d v1.Hash, img v1.Image, kind string) {
	t.Helper()
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	artifact := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.MediaType(kind)), types.OCIManifestSchema1)
	subject := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: d, Size: size}
	with, ok := mutate.Subject(artifact, subject).(v1.Image)
	if !ok {
		t.Fatal("an artifact is no image")
	}
	own, err := with.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parse(t, host+"/library/redis@"+own.String()), with); err != nil {
		t.Fatal(err)
	}
}

// serve starts the proxy and uses it.
func (w *world) serve(t *testing.T, sociable, upstream string) {
	t.Helper()
	var err error
	data := filepath.Join(t.TempDir(), "data")
	past(t, data)
	w.Proxy, err = harness.NewProxy(&harness.Programs{Sociable: sociable}, data, []string{"docker.io=" + upstream, "ghcr.io=" + upstream, "quay.io=http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if log := w.Log(); t.Failed() || strings.Contains(log, "panic:") {
			t.Errorf("sociable's log:\n%s", log)
		}
	})
	for _, ref := range []string{"docker.io/library/redis:7.2.4", "docker.io/library/redis:7.2.4", "ghcr.io/acme/worker:2026-11", "docker.io/library/entrypoint:1"} {
		w.pull(t, ref)
	}
	if _, err := remote.Get(parse(t, w.Addr+"/quay.io/none/none:1")); err == nil {
		t.Fatal("an upstream that is not there answered")
	}
	w.lazily(t)
	w.get(t, "/v2/docker.io/library/redis/referrers/"+digestOf(t, w.redis), "")
	w.settle(t)
}

// settle waits until what was done is indexed, counted and shown, so that nobody
// who looks has to wait.
func (w *world) settle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var list struct {
			Images []struct {
				Repository string
				Index      string
				Wanted     int
				Measured   bool
				Pulls      int
			}
		}
		body := w.fetch(t, "http://"+w.Admin+"/api/v1/images")
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, x := range list.Images {
			redis, small := x.Repository == "docker.io/library/redis", x.Repository == "docker.io/library/entrypoint"
			if x.Wanted == 0 && (x.Index != "" || small) && (x.Measured && x.Pulls >= 2 || !redis) && x.Pulls > 0 {
				done++
			}
		}
		if done == 3 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the images are not all indexed and counted: %s", body)
		}
	}
}

func (w *world) pull(t *testing.T, ref string) {
	t.Helper()
	img, err := remote.Image(parse(t, w.Addr+"/"+ref))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.RawConfigFile(); err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			t.Fatal(err)
		}
		rc.Close()
	}
}

func digestOf(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// lazily reads some of the first layers' bytes, as a container that starts does.
func (w *world) lazily(t *testing.T) {
	t.Helper()
	layers, err := w.redis.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers[:2] {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		size, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		for k := range int64(3 - i) {
			off := size * k / 9
			w.get(t, "/v2/docker.io/library/redis/blobs/"+d.String(), fmt.Sprintf("bytes=%d-%d", off, off+100_000))
		}
	}
}

func (w *world) get(t *testing.T, path, ranges string) {
	t.Helper()
	w.fetch(t, "http://"+w.Addr+path, "Range", ranges)
}

func (w *world) fetch(t *testing.T, url string, header ...string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header) && header[i+1] != ""; i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return body
}
