package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// copyRef has a real program copy all that a reference leads to.
func copyRef(t *testing.T, program, from, to string) {
	t.Helper()
	var err error
	switch program {
	case "skopeo":
		_, err = harness.Run(t.Context(), suite.Programs.Skopeo, "copy", "--insecure-policy", "--all",
			"--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+from, "docker://"+to)
	case "crane":
		_, err = harness.Run(t.Context(), suite.Programs.Crane, "copy", "--insecure", from, to)
	}
	if err != nil {
		t.Fatalf("copy %s to %s: %v", from, to, err)
	}
}

// wholeAt pulls every manifest and blob that ref leads to at a registry, compares each
// with its digest, and gives the sizes of all that is below ref: Debian's skopeo writes
// the list at its top anew.
func wholeAt(t *testing.T, addr, name, ref string) map[string]int {
	t.Helper()
	got := map[string]int{}
	get := func(path, ref string) *answer {
		t.Helper()
		a, err := request(t.Context(), addr, http.MethodGet, "/v2/"+name+path+ref, "Accept", v1.MediaTypeImageIndex+", "+v1.MediaTypeImageManifest)
		if err != nil || a.err != nil || a.StatusCode != http.StatusOK {
			t.Fatalf("%s%s%s: %v, %+v", name, path, ref, err, a)
		}
		d := digest.FromBytes(a.body)
		if strings.Contains(ref, ":") && ref != d.String() {
			t.Errorf("%s%s%s: it is %s", name, path, ref, d)
		}
		got[d.String()] = len(a.body)
		return a
	}
	list := decode[v1.Index](t, get("/manifests/", ref))
	clear(got)
	for _, child := range list.Manifests {
		m := decode[v1.Manifest](t, get("/manifests/", child.Digest.String()))
		for _, d := range append(m.Layers, m.Config) {
			get("/blobs/", d.Digest.String())
		}
	}
	return got
}

// place is a repository in which a proxy's clients copy, and the registry that has it.
type place struct {
	name       string // of the repository, as the proxy's clients name it
	addr, real string // the registry that has it, and its name there; "": the proxy alone
}

// TestCopyConverted copies a converted image by its tag, as one is promoted: beside
// itself, and within, between and out of hosted and upstream repositories.
func TestCopyConverted(t *testing.T) {
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
	var registries [2]*harness.Registry
	for n := range registries {
		r, err := harness.StartRegistry(suite.ctx, suite.Programs.DockerRegistry, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Stop(); err != nil {
				t.Errorf("stop a registry: %v", err)
			}
		})
		registries[n] = r
	}
	near, far := registries[0], registries[1]
	p := startProxyWith(t, near.URL(), link.Options{}, []string{setting("push", "allow"), "SOCIABLE_UPSTREAMS_FAR_PUSH=allow"}, "--upstream", "far="+far.URL())
	i := image(t, realimage.ImageSmall)
	for what, x := range map[string]struct {
		program, from string
	}{
		"hosted, by skopeo":         {"skopeo", "local/s"},
		"hosted, by crane":          {"crane", "local/c"},
		"of an upstream, by skopeo": {"skopeo", "up/s"},
		"of an upstream, by crane":  {"crane", "up/c"},
	} {
		t.Run(what, func(t *testing.T) {
			from := x.from + "/app"
			if err := copyTo(t.Context(), "skopeo", i, p.Addr+"/"+from+":1"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 60*time.Second, "the converted image", func() bool {
				return p.get(t, "/v2/"+from+"/manifests/1-soci").StatusCode == http.StatusOK
			})
			want := wholeAt(t, p.Addr, from, "1-soci")
			id := strings.ReplaceAll(x.from, "/", "-")
			for _, to := range []place{
				{name: from},
				{name: "local/" + id + "/prod"},
				{"up/" + id + "/prod", near.Addr, id + "/prod"},
				{"far/" + id + "/prod", far.Addr, id + "/prod"},
			} {
				copyRef(t, x.program, p.Addr+"/"+from+":1-soci", p.Addr+"/"+to.name+":copy")
				if diff := cmp.Diff(want, wholeAt(t, p.Addr, to.name, "copy")); diff != "" {
					t.Errorf("%s (-want +got):\n%s", to.name, diff)
				}
				if to.addr == "" {
					continue
				}
				if diff := cmp.Diff(want, wholeAt(t, to.addr, to.real, "copy")); diff != "" {
					t.Errorf("%s at its registry (-want +got):\n%s", to.name, diff)
				}
			}
			copyRef(t, x.program, p.Addr+"/"+from+":1-soci", far.Addr+"/"+id+"/out:1")
			if _, err := harness.Run(t.Context(), suite.Programs.Crane, "tag", "--insecure", p.Addr+"/"+from+":1-soci", "retagged"); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, wholeAt(t, p.Addr, from, "retagged")); diff != "" {
				t.Errorf("retagged (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("what stays", func(t *testing.T) { p.wantCopiesStay(t, i) })
}

// wantCopiesStay deletes the images of which TestCopyConverted copied what was made,
// and wants the copies in hosted repositories to outlive that.
func (p *proxy) wantCopiesStay(t *testing.T, i realimage.Image) {
	t.Helper()
	want := wholeAt(t, p.Addr, "local/local-s/prod", "copy")
	for _, name := range []string{"local/s/app", "local/c/app", "up/s/app", "up/c/app"} {
		if a := p.sendBody(t, http.MethodDelete, "/v2/"+name+"/manifests/"+i.Digest.String(), nil); a.StatusCode != http.StatusAccepted {
			t.Errorf("delete %s: %s %s", name, a.Status, a.body)
		}
	}
	collect := func() {
		t.Helper()
		if out, err := harness.Run(t.Context(), suite.Programs.Sociable, "gc", "--grace", "0s", "--data", p.Data); err != nil {
			t.Errorf("collect: %v: %s", err, out)
		}
	}
	collect()
	for _, name := range []string{"local/s/app", "local/c/app", "local/local-s/prod", "local/up-c/prod"} {
		if diff := cmp.Diff(want, wholeAt(t, p.Addr, name, "copy")); diff != "" {
			t.Errorf("%s, its source deleted (-want +got):\n%s", name, diff)
		}
	}
	if _, problems, err := p.Fsck(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("fsck: %v, %v", problems, err)
	}
}

// TestPublishToAnother: what one sociable makes is pushed to another one behind it,
// which reads much of it out of layers of its own already.
func TestPublishToAnother(t *testing.T) {
	i := image(t, realimage.ImageToolchain)
	config := func(rule string) string {
		file := filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(file, []byte("index: {rules: [{repositories: [\"**\"], "+rule+"}]}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	behind := startProxyTo(t, "http://127.0.0.1:1", link.Options{}, "--config", config("publish: v1"))
	if err := copyTo(t.Context(), "skopeo", i, behind.hosted(i)); err != nil {
		t.Fatal(err)
	}
	behind.awaitHostedIndex(t, "/v2/local/"+i.Repo(), i.Digest)
	p := startProxyTo(t, "http://"+behind.Addr, link.Options{}, "--config", config("publish_upstream: true"))
	if err := craneProgram().pull(t.Context(), p.Addr+"/"+upstream+"/local/"+i.Ref(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	name, tag, _ := strings.Cut(i.Ref(), ":")
	eventually(t, 60*time.Second, "the converted image there", func() bool {
		return behind.get(t, "/v2/local/"+name+"/manifests/"+tag+"-soci").StatusCode == http.StatusOK && p.idle(t)
	})
	if diff := cmp.Diff(wholeAt(t, p.Addr, upstream+"/local/"+name, tag+"-soci"), wholeAt(t, behind.Addr, "local/"+name, tag+"-soci")); diff != "" {
		t.Errorf("(-here +there):\n%s", diff)
	}
}
