package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/soci-snapshotter/fs"
	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/awslabs/soci-snapshotter/soci/store"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// takers are registries that take pushes from alice, by how they list referrers.
func takers(t *testing.T) map[string]guarded {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := func(program string) guarded {
		r, err := harness.StartRegistry(suite.ctx, program, t.TempDir(), "auth:", fmt.Sprintf("  htpasswd: {realm: e2e, path: %q}", file))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Stop(); err != nil {
				t.Errorf("stop a registry: %v", err)
			}
		})
		return guarded{url: r.URL()}
	}
	return map[string]guarded{
		"docker-registry 2.8": plain(suite.Programs.DockerRegistry),
		"distribution 3":      plain(suite.Programs.Registry),
		"olareg, OCI 1.1":     {url: startOlareg(t)},
		"sociable, OCI 1.1":   guardedUpstreams(t)["tokens"],
	}
}

// startOlareg runs a registry that has the referrers API, and takes no manifest
// before all that it names. Alice alone may use it.
func startOlareg(t *testing.T) (url string) {
	t.Helper()
	r := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem}, Log: slog.New(slog.DiscardHandler),
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if name, password, _ := req.BasicAuth(); name != "alice" || password != "wonder" {
			w.Header().Set("WWW-Authenticate", `Basic realm="e2e"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		srv.Close()
		if err := r.Close(); err != nil {
			t.Errorf("stop olareg: %v", err)
		}
	})
	return srv.URL
}

// TestPublishUpstream: what is made of an image that was pulled is at its own
// registry, and the official client finds it there, without the proxy.
func TestPublishUpstream(t *testing.T) {
	i := image(t, realimage.ImageToolchain)
	want, _, err := officialIndex(t, i, platformOf(i))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	text := "access: open\nindex: {rules: [{repositories: [\"**\"], publish_upstream: true}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, u := range takers(t) {
		t.Run(name, func(t *testing.T) {
			addr := strings.TrimPrefix(u.url, "http://")
			_, err := harness.Run(t.Context(), suite.Programs.Skopeo, "copy", "--insecure-policy", "--all", "--preserve-digests",
				"--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds", "alice:wonder",
				"docker://"+suite.Registry.Addr+"/"+i.Ref(), "docker://"+addr+"/"+u.prefix+i.Ref())
			if err != nil {
				t.Fatal(err)
			}
			p := startProxyWith(t, u.url, link.Options{}, []string{setting("username", "alice"), setting("password", "wonder")}, "--config", file)
			if err := craneProgram().pull(t.Context(), p.Addr+"/"+upstream+"/"+u.prefix+i.Ref(), t.TempDir()); err != nil {
				t.Fatal(err)
			}
			r := newRemote(t, addr+"/"+u.prefix+i.Repo())
			eventually(t, 30*time.Second, "the converted image at its registry", func() bool {
				_, err := r.Resolve(t.Context(), "1-soci")
				return err == nil
			})
			eventually(t, 30*time.Second, "the index at its registry", func() bool {
				_, err := fs.NewOCIArtifactClient(r).SelectReferrer(t.Context(), i.Descriptor(), fs.SelectFirstPolicy)
				return err == nil
			})
			found, err := fs.NewOCIArtifactClient(r).SelectReferrer(t.Context(), i.Descriptor(), fs.SelectFirstPolicy)
			if err != nil || found.Digest != want.Digest {
				t.Fatalf("the client finds %s, %v, want %s", found.Digest, err, want.Digest)
			}
			fetchSOCI(t, r, addr+"/"+u.prefix+i.Ref(), found)
			fetchSOCI(t, r, addr+"/"+u.prefix+i.Ref(), v1.Descriptor{Digest: convertedIndex(t, r, "1-soci")})
			if _, err := harness.Run(t.Context(), suite.Programs.Skopeo, "inspect", "--tls-verify=false", "--creds", "alice:wonder",
				"docker://"+addr+"/"+u.prefix+i.Repo()+":1-soci"); err != nil {
				t.Errorf("an ordinary client reads the converted image: %v", err)
			}
		})
	}
}

func newRemote(t *testing.T, name string) *remote.Repository {
	t.Helper()
	r, err := remote.NewRepository(name)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	r.Client = &auth.Client{Client: client, Credential: func(context.Context, string) (auth.Credential, error) {
		return auth.Credential{Username: "alice", Password: "wonder"}, nil
	}}
	return r
}

// convertedIndex is the SOCI index that the one image of a converted index names.
func convertedIndex(t *testing.T, r *remote.Repository, tag string) digest.Digest {
	t.Helper()
	d, err := r.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	index := fetchJSON[v1.Index](t, r, d)
	return digest.Digest(fetchJSON[v1.Manifest](t, r, index.Manifests[0]).Annotations[soci.ImageAnnotationSociIndexDigest])
}

func fetchJSON[T any](t *testing.T, r *remote.Repository, d v1.Descriptor) (v T) {
	t.Helper()
	body, err := content.FetchAll(t.Context(), r, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// fetchSOCI has the official client fetch an index and all that it names.
func fetchSOCI(t *testing.T, r *remote.Repository, ref string, d v1.Descriptor) {
	t.Helper()
	spec, err := reference.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	local, err := store.NewSociStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	index, err := fs.FetchSociArtifacts(t.Context(), spec, d, local, r)
	if err != nil || len(index.Blobs) == 0 {
		t.Errorf("fetch %s: %+v, %v", d.Digest, index, err)
		return
	}
	for _, z := range index.Blobs {
		if ok, err := local.Exists(t.Context(), z); err != nil || !ok {
			t.Errorf("zTOC %s was not fetched: %v", z.Digest, err)
		}
	}
}
