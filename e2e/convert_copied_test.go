package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestConvertedAndCopied: a converted image that was copied at the upstream to another
// repository, as one is promoted, is pulled from there through the proxy that made it
// and through one that knows nothing of it: the same manifests, config and layers.
func TestConvertedAndCopied(t *testing.T) {
	r, err := harness.StartRegistry(suite.ctx, suite.Programs.DockerRegistry, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("stop a registry: %v", err)
		}
	})
	copyAll := func(from, to string) {
		t.Helper()
		_, err := harness.Run(t.Context(), suite.Programs.Skopeo, "copy", "--insecure-policy", "--all",
			"--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+from, "docker://"+to)
		if err != nil {
			t.Fatal(err)
		}
	}
	i := image(t, realimage.ImageToolchain)
	name, tag, _ := strings.Cut(i.Ref(), ":")
	copyAll(suite.Registry.Addr+"/"+i.Ref(), r.Addr+"/"+i.Ref())
	made := startProxyTo(t, r.URL(), link.Options{})
	if err := craneProgram().pull(t.Context(), made.ref(i), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	path := manifestPath(name, tag+"-soci")
	eventually(t, 30*time.Second, "the converted image", func() bool { return made.get(t, path).StatusCode == http.StatusOK })
	converted := map[digest.Digest]bool{}
	for _, d := range decode[v1.Index](t, made.get(t, path)).Manifests {
		converted[d.Digest] = true
	}
	copyAll(made.ref(i)+"-soci", r.Addr+"/promoted/app:1")
	there, err := newRemote(t, r.Addr+"/promoted/app").Resolve(t.Context(), "1") // Debian's skopeo writes the list anew
	if err != nil {
		t.Fatal(err)
	}

	for whose, p := range map[string]*proxy{"the proxy that made it": made, "a fresh proxy": startProxyTo(t, r.URL(), link.Options{})} {
		t.Run(whose, func(t *testing.T) {
			list := p.get(t, manifestPath("promoted/app", "1"))
			if got := digest.FromBytes(list.body); list.StatusCode != http.StatusOK || got != there.Digest {
				t.Fatalf("%d, %s, want %s", list.StatusCode, got, there.Digest)
			}
			for _, d := range decode[v1.Index](t, list).Manifests {
				if !converted[d.Digest] {
					t.Errorf("%s was not made here", d.Digest)
				}
				if a := p.get(t, manifestPath("promoted/app", d.Digest.String())); a.StatusCode != http.StatusOK || digest.FromBytes(a.body) != d.Digest {
					t.Errorf("%s: %d", d.Digest, a.StatusCode)
				}
			}
			for _, c := range []puller{craneProgram(), skopeoProgram()} {
				dir := filepath.Join(t.TempDir(), c.name)
				if err := c.pull(t.Context(), p.Addr+"/"+upstream+"/promoted/app:1", dir); err != nil {
					t.Errorf("%s: %v", c.name, err)
					continue
				}
				for _, d := range i.Blobs() {
					sameFile(t, c.blob(dir, d), d)
				}
			}
		})
	}
}
