package door

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
)

// image is an OCI layout of one image.
type image struct {
	dir      string
	digest   digest.Digest
	manifest v1.Descriptor
	blobs    []v1.Descriptor // config and layers
}

func newImage(t *testing.T) image {
	t.Helper()
	img, err := random.Image(100_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	i := image{dir: t.TempDir()}
	path, err := layout.Write(i.dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	i.digest = digest.Digest(h.String())
	i.manifest = v1.Descriptor{MediaType: string(m.MediaType), Digest: i.digest, Size: size}
	for _, d := range append(m.Layers, m.Config) {
		i.blobs = append(i.blobs, v1.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size})
	}
	return i
}

func (i image) open(d digest.Digest) (*os.File, error) {
	return os.Open(filepath.Join(i.dir, "blobs", d.Algorithm().String(), d.Encoded()))
}

// client is a real one, which may have logged in.
type client interface {
	// login is somebody's at addr; client "" of it stays nobody's.
	login(ctx context.Context, addr, user, password string) error
	push(ctx context.Context, i image, ref string) error
	// pull gives the digest of the manifest of which all came.
	pull(ctx context.Context, ref string) (digest.Digest, error)
}

// clients makes one of each kind, who have not logged in.
var clients = map[string]func(t *testing.T) client{
	"crane": func(t *testing.T) client { t.Helper(); return crane{t.TempDir(), t.TempDir()} },
	"skopeo": func(t *testing.T) client {
		t.Helper()
		return skopeo{filepath.Join(t.TempDir(), "auth.json"), t.TempDir()}
	},
	"containerd": func(t *testing.T) client { t.Helper(); return &containerd{} },
}

// crane keeps what it knows in the folder config.
type crane struct{ config, work string }

func (c crane) run(ctx context.Context, args ...string) error {
	_, err := harness.Run(ctx, "env", append([]string{"DOCKER_CONFIG=" + c.config, programs.Crane, "--insecure"}, args...)...)
	return err
}

func (c crane) login(ctx context.Context, addr, user, password string) error {
	return c.run(ctx, "auth", "login", addr, "-u", user, "-p", password)
}

func (c crane) push(ctx context.Context, i image, ref string) error {
	return c.run(ctx, "push", i.dir, ref)
}

func (c crane) pull(ctx context.Context, ref string) (digest.Digest, error) {
	dir, err := os.MkdirTemp(c.work, "")
	if err != nil {
		return "", err
	}
	if err := c.run(ctx, "pull", "--format=oci", ref, dir); err != nil {
		return "", err
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		return "", err
	}
	idx, err := path.ImageIndex()
	if err != nil {
		return "", err
	}
	m, err := idx.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		return "", fmt.Errorf("pulled %+v: %w", m, err)
	}
	return digest.Digest(m.Manifests[0].Digest.String()), nil
}

// skopeo keeps what it knows in the file auth.
type skopeo struct{ auth, work string }

func (s skopeo) flags() []string {
	if _, err := os.Stat(s.auth); err != nil {
		return []string{"--src-no-creds", "--dest-no-creds"}
	}
	return []string{"--authfile", s.auth}
}

func (s skopeo) copy(ctx context.Context, from, to string) error {
	args := append([]string{"copy", "--insecure-policy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"}, s.flags()...)
	_, err := harness.Run(ctx, programs.Skopeo, append(args, from, to)...)
	return err
}

func (s skopeo) login(ctx context.Context, addr, user, password string) error {
	_, err := harness.Run(ctx, programs.Skopeo, "login", "--authfile", s.auth, "--tls-verify=false", "-u", user, "-p", password, addr)
	return err
}

func (s skopeo) push(ctx context.Context, i image, ref string) error {
	return s.copy(ctx, "oci:"+i.dir, "docker://"+ref)
}

func (s skopeo) pull(ctx context.Context, ref string) (digest.Digest, error) {
	dir, err := os.MkdirTemp(s.work, "")
	if err != nil {
		return "", err
	}
	if err := s.copy(ctx, "docker://"+ref, "dir:"+dir); err != nil {
		return "", err
	}
	body, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	return digest.FromBytes(body), err
}

// containerd is its resolver, as its own client and its CRI plugin use it.
type containerd struct {
	hosts          string // certs.d; "": none
	user, password string
	at             string // the host that the credentials are for
}

func (c *containerd) resolver(ctx context.Context) remotes.Resolver {
	o := config.HostOptions{DefaultScheme: "http", Credentials: func(host string) (string, string, error) {
		if host != c.at {
			return "", "", nil
		}
		return c.user, c.password, nil
	}}
	if c.hosts != "" {
		o.HostDir = config.HostDirFromRoot(c.hosts)
	}
	return docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, o), Headers: http.Header{}})
}

func (c *containerd) login(_ context.Context, addr, user, password string) error {
	c.at, c.user, c.password = addr, user, password
	return nil
}

func (c *containerd) push(ctx context.Context, i image, ref string) error {
	p, err := c.resolver(ctx).Pusher(ctx, ref)
	if err != nil {
		return err
	}
	for _, d := range append(i.blobs, i.manifest) {
		body, err := i.open(d.Digest)
		if err != nil {
			return err
		}
		w, err := p.Push(ctx, d)
		if err == nil {
			err = content.Copy(ctx, w, body, d.Size, d.Digest)
			_ = w.Close()
		}
		_ = body.Close()
		if err != nil && !strings.Contains(err.Error(), "already exists") {
			return err
		}
	}
	return nil
}

func (c *containerd) pull(ctx context.Context, ref string) (digest.Digest, error) {
	r := c.resolver(ctx)
	name, d, err := r.Resolve(ctx, ref)
	if err != nil {
		return "", err
	}
	f, err := r.Fetcher(ctx, name)
	if err != nil {
		return "", err
	}
	fetch := func(d v1.Descriptor) ([]byte, error) {
		rc, err := f.Fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		defer rc.Close()
		body, err := io.ReadAll(rc)
		if err == nil && digest.FromBytes(body) != d.Digest {
			err = fmt.Errorf("%s came as %d other bytes", d.Digest, len(body))
		}
		return body, err
	}
	body, err := fetch(d)
	if err != nil {
		return "", err
	}
	m, err := manifestOf(body)
	if err != nil {
		return "", err
	}
	for _, b := range append(m.Layers, m.Config) {
		if _, err := fetch(b); err != nil {
			return "", err
		}
	}
	return d.Digest, nil
}
