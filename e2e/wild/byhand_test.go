package wild

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/awslabs/soci-snapshotter/soci/store"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// byHand is what one does without a proxy: the image in a plain registry, with
// the indexes that the official tool makes of it.
type byHand struct {
	registry *harness.Registry
	down     *link.Link    // from its clients
	took     time.Duration // of `soci create` and its push
}

// startByHand starts a registry with the image, and has the official tool index
// and convert it.
func startByHand(t *testing.T) *byHand {
	t.Helper()
	registry, err := harness.StartRegistry(suite.ctx, suite.programs.DockerRegistry, filepath.Join(suite.cache, "registry-hand"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registry.Stop(); err != nil {
			t.Error(err)
		}
	})
	h := &byHand{registry: registry}
	if err := suite.set.Push(t.Context(), registry.Addr, realimage.ImageStart); err != nil {
		t.Fatal(err)
	}
	if err := h.index(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	h.down = startLink(t, registry.URL())
	return h
}

// ref is how clients behind the link name the image.
func (h *byHand) ref() string { return h.down.Addr() + "/" + suite.image.Ref() }

// index does what `soci create`, `soci convert` and `soci push` do.
func (h *byHand) index(ctx context.Context, dir string) error {
	// containerd's content store keeps blobs as an image layout does.
	if err := os.Symlink(filepath.Join(suite.set.Dir, "blobs"), filepath.Join(dir, "blobs")); err != nil {
		return err
	}
	content, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	made, err := store.NewSociStore(filepath.Join(dir, "soci"))
	if err != nil {
		return err
	}
	db, err := soci.NewDB(filepath.Join(dir, "artifacts.db"))
	if err != nil {
		return err
	}
	// The database is one for the process, and knows the zTOCs of earlier runs.
	b, err := soci.NewIndexBuilder(content, made, soci.WithArtifactsDb(db), soci.WithForceRecreateZtocs(true))
	if err != nil {
		return err
	}
	image := images.Image{Name: suite.image.Ref(), Target: suite.image.Descriptor()}
	p := &pusher{ctx: ctx, repo: h.registry.Addr + "/" + suite.image.Repo(), from: made}
	began := time.Now()
	v1Index, err := b.Build(ctx, image)
	if err != nil {
		return err
	}
	p.v1(v1Index.Desc)
	h.took = time.Since(began)
	converted, err := b.Convert(ctx, image)
	if err != nil {
		return err
	}
	p.v2(*converted)
	return p.err
}

// pusher pushes what the official tool made. It stops at the first error.
type pusher struct {
	ctx  context.Context
	repo string
	from *store.SociStore
	err  error
}

// v1 pushes a SOCI index under the tag that stands for the referrers API.
func (p *pusher) v1(d v1.Descriptor) {
	p.soci(d)
	d.ArtifactType = soci.SociIndexArtifactType
	list, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{d}})
	p.note(err)
	p.manifest("sha256-"+suite.image.Digest.Encoded(), v1.MediaTypeImageIndex, list)
}

// v2 pushes a converted image.
func (p *pusher) v2(d v1.Descriptor) {
	var index v1.Index
	body := p.read(d)
	p.decode(body, &index)
	for _, m := range index.Manifests {
		if m.ArtifactType == soci.SociIndexArtifactTypeV2 {
			p.soci(m)
		} else { // its config and layers are there
			p.manifest(m.Digest.String(), m.MediaType, p.read(m))
		}
	}
	p.manifest("1-soci", v1.MediaTypeImageIndex, body)
}

// soci pushes a SOCI index and its zTOCs.
func (p *pusher) soci(d v1.Descriptor) {
	var m v1.Manifest
	body := p.read(d)
	p.decode(body, &m)
	for _, blob := range append(m.Layers, m.Config) {
		p.blob(blob)
	}
	p.manifest(d.Digest.String(), v1.MediaTypeImageManifest, body)
}

func (p *pusher) read(d v1.Descriptor) []byte {
	if p.err != nil {
		return nil
	}
	rc, err := p.from.Fetch(p.ctx, d)
	if err != nil {
		p.note(fmt.Errorf("%s: %w", d.Digest, err))
		return nil
	}
	defer rc.Close()
	body, err := io.ReadAll(rc)
	p.note(err)
	return body
}

func (p *pusher) decode(body []byte, to any) {
	if p.err == nil {
		p.note(json.Unmarshal(body, to))
	}
}

func (p *pusher) blob(d v1.Descriptor) { p.bytes(d.MediaType, p.read(d)) }

func (p *pusher) bytes(mediaType string, body []byte) {
	repo, err := name.NewRepository(p.repo, name.Insecure)
	p.note(err)
	if p.err == nil {
		p.note(remote.WriteLayer(repo, static.NewLayer(body, types.MediaType(mediaType)), remote.WithContext(p.ctx)))
	}
}

func (p *pusher) manifest(ref, mediaType string, body []byte) {
	if p.err != nil {
		return
	}
	at := ":"
	if strings.Contains(ref, ":") {
		at = "@"
	}
	to, err := name.ParseReference(p.repo+at+ref, name.Insecure)
	p.note(err)
	if p.err == nil {
		p.note(remote.Put(to, rawManifest{body, types.MediaType(mediaType)}, remote.WithContext(p.ctx), remote.WithTransport(http.DefaultTransport)))
	}
}

// image pushes a manifest whose layers are there, with the configuration that it
// gets, under a tag.
func (p *pusher) image(tag string, m v1.Manifest, config v1.Image) {
	body, err := json.Marshal(config)
	p.note(err)
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(body), Size: int64(len(body))}
	p.bytes(m.Config.MediaType, body)
	body, err = json.Marshal(m)
	p.note(err)
	p.manifest(tag, m.MediaType, body)
}

func (p *pusher) note(err error) {
	if p.err == nil {
		p.err = err
	}
}

// rawManifest is pushed as it is.
type rawManifest struct {
	body  []byte
	media types.MediaType
}

func (m rawManifest) RawManifest() ([]byte, error)        { return m.body, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return m.media, nil }
