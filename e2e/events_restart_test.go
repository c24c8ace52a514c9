package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// gzipTar is a layer of one file of so many bytes.
func gzipTar(t *testing.T, size int) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body)
	err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(size)})
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestIndexingIsTold: what became of an image's layers is told though the receiver
// was away and the process was killed meanwhile.
func TestIndexingIsTold(t *testing.T) {
	h := newHooks(t)
	h.set(http.StatusInternalServerError)
	const rules = `index: {rules: [{repositories: ["**"], min_layer_size: 1KiB}]}` + "\n"
	p := startProxyTo(t, "http://127.0.0.1:1", link.Options{}, "--config", h.config(t, rules))
	var layers []string
	blob := func(mediaType string, body []byte) digest.Digest {
		t.Helper()
		d := digest.FromBytes(body)
		p.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+d.String(), "application/octet-stream", string(body))
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, d, len(body)))
		return d
	}
	blob(v1.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux"}`))
	config := layers[0]
	layers = nil
	blob(v1.MediaTypeImageLayerGzip, gzipTar(t, 100<<10))
	malformed := blob(v1.MediaTypeImageLayerGzip, bytes.Repeat([]byte("no gzip"), 1000))
	zstd := blob(v1.MediaTypeImageLayerZstd, bytes.Repeat([]byte("zstd"), 1000))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, v1.MediaTypeImageManifest, config, strings.Join(layers, ","))
	p.send(t, http.MethodPut, "/v2/local/app/manifests/1", v1.MediaTypeImageManifest, manifest)
	const pushed, made = 5, 3
	p.awaitEvents(t, "queued", pushed+made, func() int { return p.queuedEvents(t) })
	p.Kill()
	p.start(t)
	p.Kill()
	h.set(http.StatusOK)
	p.start(t)
	p.awaitEvents(t, "events", pushed+made, func() int { return len(h.distinct()) })
	var got []string
	for _, e := range h.distinct() {
		if e.Action != "push" {
			reason, _, _ := strings.Cut(e.Reason, ":")
			got = append(got, strings.Join([]string{e.Action, e.Target.Repository, e.Target.Digest, reason}, " "))
		}
	}
	want := []string{
		"index-skipped local/app " + malformed.String() + " malformed",
		"index-skipped local/app " + zstd.String() + " zstd",
		"indexed local/app " + digest.FromString(manifest).String() + " ",
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestEvictionIsTold: what had to make room is told of, though the process is killed
// as soon as there is that room.
func TestEvictionIsTold(t *testing.T) {
	small, large := suite.Set.Layers[realimage.LayerCerts], suite.Set.Layers[realimage.LayerBase]
	h := newHooks(t)
	h.set(http.StatusInternalServerError)
	repo := image(t, realimage.ImageToolchain).Repo()
	limit := fmt.Sprintf("SOCIABLE_STORAGE_MAX_BYTES=%d", large.Size+small.Size/2)
	p := startProxyWith(t, suite.Registry.URL(), link.Options{}, []string{limit}, "--config", h.config(t))
	for _, d := range []digest.Digest{small.Digest, large.Digest} {
		if _, err := p.download(t.Context(), blobPath(repo, d), d); err != nil {
			t.Fatal(err)
		}
	}
	p.Kill()
	h.set(http.StatusOK)
	p.start(t)
	evicted := func() (n int) {
		for _, e := range h.distinct() {
			if e.Action == "evicted" && e.Target.Digest == small.Digest.String() && e.Target.Repository == "up/"+repo {
				n++
			}
		}
		return n
	}
	p.awaitEvents(t, "evictions", 1, evicted)
}
