package realimage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names of the images; Ref names one in a registry.
const (
	ImageToolchain = "toolchain" // base, certs, go: OCI
	ImageDocker    = "docker"    // the same and a bare tar layer: Docker schema 2
	ImageBig       = "big"       // base, big, tar: OCI
	ImageSmall     = "small"     // python alone: OCI
	ImageBad       = "bad"       // base, every bad layer, python: OCI
	ImageMulti     = "multi"     // OCI index: toolchain for amd64, small for arm64
	ImageList      = "list"      // Docker manifest list of docker
	ImageCrumbs    = "crumbs"    // a hundred layers of some kilobytes
)

// Image is an image or index of the layout.
type Image struct {
	Name      string
	MediaType string
	Digest    digest.Digest
	Size      int64
	Manifest  []byte
	Config    digest.Digest // "" for an index
	Layers    []Layer       // nil for an index
	Platforms []string      // names of an index's images
}

// Ref is the image's repository and tag: e2e/<name>:1.
func (i Image) Ref() string { return i.Repo() + ":1" }

// Repo is the image's repository.
func (i Image) Repo() string { return "e2e/" + i.Name }

// Descriptor is the image's as an index would have it.
func (i Image) Descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: i.MediaType, Digest: i.Digest, Size: i.Size}
}

// Blobs are the config and the layers; an index has none.
func (i Image) Blobs() []digest.Digest {
	if i.Config == "" {
		return nil
	}
	ds := []digest.Digest{i.Config}
	for _, l := range i.Layers {
		ds = append(ds, l.Digest)
	}
	return ds
}

// fileLayer is a layer of the layout as go-containerregistry wants it.
type fileLayer struct {
	Layer
	mediaType types.MediaType
	set       *Set
}

func (l fileLayer) Digest() (ggcr.Hash, error) { return ggcr.NewHash(l.Layer.Digest.String()) }
func (l fileLayer) DiffID() (ggcr.Hash, error) { return ggcr.NewHash(l.Layer.DiffID.String()) }
func (l fileLayer) Size() (int64, error)       { return l.Layer.Size, nil }

func (l fileLayer) MediaType() (types.MediaType, error)  { return l.mediaType, nil }
func (l fileLayer) Compressed() (io.ReadCloser, error)   { return l.set.Open(l.Layer.Digest) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// created is every image's date.
var created = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

// makeImages writes the images' configs and manifests; blobs that are there
// stay as they are.
func (s *Set) makeImages() error {
	s.Images = map[string]Image{}
	bad := []string{LayerBase}
	for _, l := range s.BadLayers() {
		bad = append(bad, l.Name)
	}
	crumbs, err := s.makeCrumbs()
	if err != nil {
		return err
	}
	for _, img := range []struct {
		name, arch string
		docker     bool
		layers     []string
	}{
		{ImageToolchain, "amd64", false, []string{LayerBase, LayerCerts, LayerGo}},
		{ImageDocker, "amd64", true, []string{LayerBase, LayerCerts, LayerGo, LayerTar}},
		{ImageBig, "amd64", false, []string{LayerBase, LayerBig, LayerTar}},
		{ImageSmall, "arm64", false, []string{LayerPython}},
		{ImageBad, "amd64", false, append(bad, LayerPython)},
		{ImageCrumbs, "amd64", false, crumbs},
	} {
		if err := s.addImage(img.name, img.arch, img.docker, img.layers, ggcr.Config{}); err != nil {
			return fmt.Errorf("image %s: %w", img.name, err)
		}
	}
	return errors.Join(
		s.addIndex(ImageMulti, types.OCIImageIndex, ImageToolchain, ImageSmall),
		s.addIndex(ImageList, types.DockerManifestList, ImageDocker),
	)
}

func (s *Set) addImage(name, arch string, docker bool, layers []string, run ggcr.Config) error {
	media, config := types.OCIManifestSchema1, types.OCIConfigJSON
	if docker {
		media, config = types.DockerManifestSchema2, types.DockerConfigJSON
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, media), config)
	out := Image{Name: name}
	for _, n := range layers {
		l := fileLayer{Layer: s.Layers[n], mediaType: types.MediaType(s.Layers[n].MediaType), set: s}
		if docker {
			l.mediaType = dockerType(l.mediaType)
		}
		l.Layer.MediaType = string(l.mediaType)
		out.Layers = append(out.Layers, l.Layer)
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer: l, MediaType: l.mediaType,
			History: ggcr.History{Created: ggcr.Time{Time: created}, CreatedBy: "layer " + n},
		})
		if err != nil {
			return err
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cf.OS, cf.Architecture, cf.Created, cf.Config = "linux", arch, ggcr.Time{Time: created}, run
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return err
	}
	h, err := img.ConfigName()
	if err != nil {
		return err
	}
	out.Config = digest.Digest(h.String())
	path, err := s.layout()
	if err != nil {
		return err
	}
	if err := path.ReplaceImage(img, match.Name(out.Ref()), named(out)); err != nil {
		return err
	}
	return s.describe(out, img)
}

// makeCrumbs makes a hundred small layers and returns their names.
func (s *Set) makeCrumbs() ([]string, error) {
	var names []string
	for n := range 100 {
		l, err := writeLayer(s.blobs(), fmt.Sprintf("crumb-%d", n), goGzip, func(w io.Writer) (int, error) {
			size := int64(512 * (n%16 + 1))
			err := header(w, fmt.Sprintf("crumb/%d", n), tar.TypeReg, size)
			_, cerr := io.CopyN(w, rand.NewChaCha8([32]byte{byte(n), 1}), size)
			return 1, errors.Join(err, cerr, end(w))
		})
		if err != nil {
			return nil, err
		}
		s.Layers[l.Name] = l
		names = append(names, l.Name)
	}
	return names, nil
}

func dockerType(t types.MediaType) types.MediaType {
	if t == types.OCIUncompressedLayer {
		return types.DockerUncompressedLayer
	}
	return types.DockerLayer
}

func (s *Set) addIndex(name string, media types.MediaType, images ...string) error {
	path, err := s.layout()
	if err != nil {
		return err
	}
	idx := mutate.IndexMediaType(empty.Index, media)
	out := Image{Name: name, Platforms: images}
	for _, n := range images {
		h, err := ggcr.NewHash(s.Images[n].Digest.String())
		if err != nil {
			return err
		}
		img, err := path.Image(h)
		if err != nil {
			return err
		}
		cf, err := img.ConfigFile()
		if err != nil {
			return err
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: ggcr.Descriptor{Platform: cf.Platform()}})
	}
	if err := path.ReplaceIndex(idx, match.Name(out.Ref()), named(out)); err != nil {
		return err
	}
	return s.describe(out, idx)
}

// describe completes out from what both images and indexes tell.
func (s *Set) describe(out Image, from interface {
	Digest() (ggcr.Hash, error)
	RawManifest() ([]byte, error)
	MediaType() (types.MediaType, error)
}) error {
	h, err1 := from.Digest()
	raw, err2 := from.RawManifest()
	media, err3 := from.MediaType()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	out.Digest, out.Manifest, out.MediaType = digest.Digest(h.String()), raw, string(media)
	out.Size = int64(len(raw))
	s.Images[out.Name] = out
	return nil
}

func named(i Image) layout.Option {
	return layout.WithAnnotations(map[string]string{v1.AnnotationRefName: i.Ref()})
}

func (s *Set) layout() (layout.Path, error) {
	if p, err := layout.FromPath(s.Dir); err == nil {
		return p, nil
	}
	return layout.Write(s.Dir, empty.Index)
}

// Push puts the named images, or all of them, into the registry at addr
// (host:port, plain HTTP). Images that are there already are left alone.
func (s *Set) Push(ctx context.Context, addr string, names ...string) error {
	path, err := s.layout()
	if err != nil {
		return err
	}
	if len(names) == 0 { // images before the indexes that name them
		names = []string{ImageToolchain, ImageDocker, ImageBig, ImageSmall, ImageBad, ImageCrumbs, ImageMulti, ImageList}
	}
	for _, n := range names {
		if err := s.push(ctx, path, addr, s.Images[n]); err != nil {
			return fmt.Errorf("push %s: %w", n, err)
		}
	}
	return nil
}

func (s *Set) push(ctx context.Context, path layout.Path, addr string, i Image) error {
	ref, err := name.NewTag(addr+"/"+i.Ref(), name.Insecure)
	if err != nil {
		return err
	}
	opts := []remote.Option{remote.WithContext(ctx), remote.WithJobs(2), remote.WithTransport(http.DefaultTransport)}
	if d, err := remote.Head(ref, opts...); err == nil && d.Digest.String() == i.Digest.String() {
		return nil
	}
	h, err := ggcr.NewHash(i.Digest.String())
	if err != nil {
		return err
	}
	if i.Layers != nil {
		img, err := path.Image(h)
		if err != nil {
			return err
		}
		return remote.Write(ref, img, opts...)
	}
	root, err := path.ImageIndex()
	if err != nil {
		return err
	}
	idx, err := root.ImageIndex(h)
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, idx, opts...)
}

// Path is the file of a blob of the layout.
func (s *Set) Path(d digest.Digest) string { return filepath.Join(s.blobs(), d.Encoded()) }
