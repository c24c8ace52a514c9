package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// puller is a real program that pulls an image into a folder. blob names the
// file in it that holds a blob.
type puller struct {
	name string
	pull func(ctx context.Context, ref, dir string) error
	blob func(dir string, d digest.Digest) string
}

func craneProgram() puller {
	return puller{
		name: "crane",
		pull: func(ctx context.Context, ref, dir string) error {
			_, err := harness.Run(ctx, suite.Programs.Crane, "pull", "--format=oci", ref, dir)
			return err
		},
		blob: func(dir string, d digest.Digest) string { return filepath.Join(dir, "blobs", "sha256", d.Encoded()) },
	}
}

func skopeoProgram() puller {
	return puller{
		name: "skopeo",
		pull: func(ctx context.Context, ref, dir string) error {
			_, err := harness.Run(ctx, suite.Programs.Skopeo, "copy", "--insecure-policy", "--src-tls-verify=false",
				"--preserve-digests", "docker://"+ref, "dir:"+dir)
			return err
		},
		blob: func(dir string, d digest.Digest) string { return filepath.Join(dir, d.Encoded()) },
	}
}

// pullAndCompare pulls with a real program and compares every blob with the source.
func pullAndCompare(t *testing.T, c puller, ref string, i realimage.Image) {
	t.Helper()
	dir := t.TempDir()
	if err := c.pull(t.Context(), ref, dir); err != nil {
		t.Fatal(err)
	}
	for _, d := range i.Blobs() {
		sameFile(t, c.blob(dir, d), d)
	}
	manifest := c.blob(dir, i.Digest)
	if c.name == "skopeo" {
		manifest = filepath.Join(dir, "manifest.json")
	}
	got, err := os.ReadFile(manifest)
	if err != nil || !bytes.Equal(got, i.Manifest) {
		t.Errorf("the manifest is not the source's: %v\n%s", err, got)
	}
}

// TestPlainRegistry is the harness tried on itself: what the other tests expect
// of the proxy is what a registry does.
func TestPlainRegistry(t *testing.T) {
	for _, r := range []*harness.Registry{suite.Registry, suite.Debian} {
		for _, c := range []puller{craneProgram(), skopeoProgram()} {
			l := startLink(t, r.URL(), link.Options{})
			i := image(t, realimage.ImageSmall)
			pullAndCompare(t, c, l.Addr()+"/"+i.Ref(), i)
			if n := len(l.Requests(link.Blob(i.Layers[0].Digest), link.Method("GET"))); n != 1 {
				t.Errorf("%s: %d requests for the layer, want 1", c.name, n)
			}
		}
	}
}

func TestPullByRealClients(t *testing.T) {
	for _, test := range []struct {
		registry string
		url      string
		client   puller
		images   []string
	}{
		{"distribution", suite.Registry.URL(), craneProgram(), []string{realimage.ImageToolchain, realimage.ImageDocker, realimage.ImageBig}},
		{"docker-registry", suite.Debian.URL(), skopeoProgram(), []string{realimage.ImageToolchain, realimage.ImageDocker}},
	} {
		t.Run(test.client.name+" from "+test.registry, func(t *testing.T) {
			p := startProxyTo(t, test.url, link.Options{})
			for _, name := range test.images {
				i := image(t, name)
				pullAndCompare(t, test.client, p.ref(i), i)
				eachBlobOnce(t, p.link, i)
				p.link.Forget()
				pullAndCompare(t, test.client, p.ref(i), i)
				secondPull(t, p.link, i)
			}
		})
	}
}

// eachBlobOnce asserts that the upstream was asked for the bytes of each of an
// image's blobs once at most, whoever wanted them.
func eachBlobOnce(t *testing.T, l *link.Link, i realimage.Image) {
	t.Helper()
	for _, d := range i.Blobs() {
		if rs := l.Requests(link.Blob(d), link.Method(http.MethodGet)); len(rs) > 1 {
			t.Errorf("%s: %d transfers of %s, want one: %v", i.Name, len(rs), d, rs)
		}
	}
}

// secondPull asserts what the upstream saw of a pull of a cached image.
func secondPull(t *testing.T, l *link.Link, i realimage.Image) {
	t.Helper()
	if rs := l.Requests(link.Blob()); len(rs) != 0 {
		t.Errorf("second pull of %s: %d blob requests upstream, want none: %v", i.Name, len(rs), rs)
	}
	if rs := l.Requests(link.Not(link.Manifest("1"))); len(rs) != 0 {
		t.Errorf("second pull of %s: requests besides the tag's check: %v", i.Name, rs)
	}
	if rs := l.Requests(link.Manifest("1")); len(rs) > 1 {
		t.Errorf("second pull of %s: %d tag checks, want at most 1: %v", i.Name, len(rs), rs)
	}
}

// TestOneFlight has many clients want one cold blob at once.
func TestOneFlight(t *testing.T) {
	const clients = 32
	p := startProxy(t, link.Options{BytesPerSecond: 100e6})
	i := image(t, realimage.ImageSmall)
	layer := i.Layers[0].Digest
	var wg sync.WaitGroup
	outcomes := make([]string, clients)
	for n := range clients {
		wg.Go(func() {
			a, err := p.download(t.Context(), blobPath(i.Repo(), layer), layer)
			if err != nil {
				t.Errorf("client %d: %v", n, err)
				return
			}
			outcomes[n] = a.cache()
		})
	}
	wg.Wait()
	rs := p.link.Requests(link.Blob(layer), link.Method("GET"))
	if len(rs) != 1 || rs[0].Sent != i.Layers[0].Size {
		t.Errorf("upstream GETs: %v; want one of %d bytes", rs, i.Layers[0].Size)
	}
	slices.Sort(outcomes)
	counts := map[string]int{}
	for _, o := range outcomes {
		counts[o]++
	}
	if counts["miss"] != 1 || counts["miss"]+counts["follow"]+counts["hit"] != clients {
		t.Errorf("X-Cache of %d clients: %v; want one miss, and the others follow (or hit, if they are late)", clients, counts)
	}
}

// TestSameHeadersAsUpstream compares HEAD and GET of every media type, by tag
// and by digest, with what the registry itself answers.
func TestSameHeadersAsUpstream(t *testing.T) {
	p := startProxy(t, link.Options{})
	for _, name := range []string{realimage.ImageToolchain, realimage.ImageDocker, realimage.ImageMulti, realimage.ImageList} {
		i := image(t, name)
		for _, ref := range []string{"1", i.Digest.String()} {
			for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodHead} {
				t.Run(fmt.Sprintf("%s/%s/%.10s", method, name, ref), func(t *testing.T) {
					path := "/manifests/" + ref
					want, err := request(t.Context(), suite.Registry.Addr, method, "/v2/"+i.Repo()+path, "Accept", i.MediaType)
					if err != nil {
						t.Fatal(err)
					}
					compareAnswers(t, want, p.do(t, method, repo(i.Repo())+path, "Accept", i.MediaType))
				})
			}
		}
		for _, d := range i.Blobs() {
			want, err := request(t.Context(), suite.Registry.Addr, http.MethodHead, "/v2/"+i.Repo()+"/blobs/"+d.String())
			if err != nil {
				t.Fatal(err)
			}
			compareAnswers(t, want, p.do(t, http.MethodHead, blobPath(i.Repo(), d)))
		}
	}
	if n := p.link.Bytes(link.Blob()); n != 0 {
		t.Errorf("HEADs of blobs took %d bytes from the upstream, want none", n)
	}
}

// compareAnswers compares what clients of a registry rely on.
func compareAnswers(t *testing.T, want, got *answer) {
	t.Helper()
	if want.StatusCode != http.StatusOK {
		t.Fatalf("the registry itself answers %s", want.Status)
	}
	type facts struct{ Status, Type, Length, Digest, Ranges, Body string }
	of := func(a *answer) facts {
		return facts{a.Status, a.Header.Get("Content-Type"), a.Header.Get("Content-Length"),
			a.Header.Get("Docker-Content-Digest"), a.Header.Get("Accept-Ranges"), string(a.body)}
	}
	w, g := of(want), of(got)
	w.Ranges = g.Ranges
	if got.Request.Method == http.MethodHead && strings.Contains(got.Request.URL.Opaque, "/blobs/") {
		w.Ranges = "bytes" // soci-snapshotter's parallel mode wants it on HEAD too
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("%s %s (-registry +proxy):\n%s", got.Request.Method, got.Request.URL.Opaque, d)
	}
	if n, err := strconv.Atoi(g.Length); err != nil || n == 0 {
		t.Errorf("Content-Length %q", g.Length)
	}
}

// TestIndexes pulls multi-platform images: the index, then each platform, which has
// a SOCI index of its own from then on.
func TestIndexes(t *testing.T) {
	p := startProxy(t, link.Options{})
	for _, name := range []string{realimage.ImageMulti, realimage.ImageList} {
		i := image(t, name)
		if a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType); !bytes.Equal(a.body, i.Manifest) {
			t.Errorf("index %s: %s\n%s", name, a.Status, a.body)
		}
	}
	multi, small := image(t, realimage.ImageMulti), image(t, realimage.ImageSmall)
	dir := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		if _, err := harness.Run(t.Context(), suite.Programs.Crane, "pull", "--format=oci", "--platform=linux/"+arch, p.ref(multi), filepath.Join(dir, arch)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range small.Blobs() {
		sameFile(t, craneProgram().blob(filepath.Join(dir, "arm64"), d), d)
	}
	var index v1.Index
	if err := json.Unmarshal(multi.Manifest, &index); err != nil || len(index.Manifests) != 2 {
		t.Fatalf("the index of %s: %v, %s", multi.Ref(), err, multi.Manifest)
	}
	listed := map[digest.Digest]bool{}
	for _, m := range index.Manifests {
		listed[p.awaitIndex(t, multi.Repo(), m.Digest, time.Minute).Digest] = true
	}
	if len(listed) != 2 {
		t.Errorf("the platforms have the indexes %v, want one each", listed)
	}
}
