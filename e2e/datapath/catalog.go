package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// catalogVersion changes when what buildCatalog makes does.
const catalogVersion = "datapath-2"

const (
	bigSize   = 300 << 20 // of the one layer of image big
	smallSize = 180 << 10 // of each layer of image small
	crowdSize = 12 << 20  // of each layer of image crowd: large enough to be indexed
)

// image is one image of the catalogue. Everything in it is in the registry's
// folder already.
type image struct {
	Repo, Tag string
	Manifest  v1.Descriptor
	Config    v1.Descriptor
	Layers    []v1.Descriptor
}

// catalog is what the upstream registry has.
type catalog struct {
	Big   image // one layer of 300 MiB
	Small image // 40 small layers
	Crowd image // 64 layers of 12 MiB
	Hello image // one tiny layer, to speak to a server at all

	root string
}

func (c *catalog) blobPath(d digest.Digest) string {
	return filepath.Join(c.root, "blobs", d.Encoded())
}

// openCatalog gives the catalogue in cache, making it first if it isn't there:
// that takes a minute or so, once.
func openCatalog(cache string) (*catalog, error) {
	root := filepath.Join(cache, catalogVersion)
	body, err := os.ReadFile(filepath.Join(root, "catalog.json"))
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "making the layers in %s, once\n", root)
		if err := buildCatalog(cache, root); err != nil {
			return nil, fmt.Errorf("make the layers: %w", err)
		}
		body, err = os.ReadFile(filepath.Join(root, "catalog.json"))
	}
	if err != nil {
		return nil, err
	}
	c := &catalog{root: root}
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it", root, err)
	}
	return c, nil
}

// buildCatalog fills a folder beside root and gives it its name when it is whole.
func buildCatalog(cache, root string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // nothing is left of it after the rename
	if err := os.Mkdir(filepath.Join(dir, "blobs"), 0o755); err != nil {
		return err
	}
	c := &catalog{root: dir}
	for _, x := range []struct {
		image    *image
		repo     string
		layers   int
		size     int64
		variants bool // layers that differ in their gzip headers only: made at once
		seed     uint64
	}{
		{&c.Big, "bench/big", 1, bigSize, false, 1},
		{&c.Small, "bench/small", 40, smallSize, false, 100},
		{&c.Crowd, "bench/crowd", 64, crowdSize, true, 2},
		{&c.Hello, "bench/hello", 1, 4 << 10, false, 3},
	} {
		var layers []layerInfo
		for i := range x.layers {
			var l layerInfo
			if x.variants && i > 0 {
				l, err = c.addVariant(layers[0], fmt.Sprint(i))
			} else {
				l, err = c.addLayer(x.size, x.seed+uint64(i))
			}
			if err != nil {
				return err
			}
			layers = append(layers, l)
		}
		if *x.image, err = c.addImage(x.repo, "1", layers); err != nil {
			return err
		}
	}
	body, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "catalog.json"), body, 0o644); err != nil {
		return err
	}
	return os.Rename(dir, root)
}

func (c *catalog) addLayer(size int64, seed uint64) (l layerInfo, err error) {
	return c.addFile(func(w io.Writer) (layerInfo, error) { return writeLayer(w, size, seed) })
}

// addVariant adds a layer of the same tar under another gzip header.
func (c *catalog) addVariant(of layerInfo, comment string) (layerInfo, error) {
	original, err := os.ReadFile(c.blobPath(of.Digest))
	if err != nil {
		return layerInfo{}, err
	}
	return c.addFile(func(w io.Writer) (layerInfo, error) { return writeVariant(w, of, original, comment) })
}

func (c *catalog) addFile(write func(io.Writer) (layerInfo, error)) (layerInfo, error) {
	f, err := os.CreateTemp(c.root, "layer-")
	if err != nil {
		return layerInfo{}, err
	}
	defer f.Close() // closed and checked below when all went well
	l, err := write(f)
	if err != nil {
		return layerInfo{}, err
	}
	if err := f.Close(); err != nil {
		return layerInfo{}, err
	}
	return l, os.Rename(f.Name(), c.blobPath(l.Digest))
}

// addImage stores the configuration and the manifest of an image, which is
// both a blob and what its tag and digest name.
func (c *catalog) addImage(repo, tag string, layers []layerInfo) (image, error) {
	im := image{Repo: repo, Tag: tag}
	config := v1.Image{Platform: v1.Platform{Architecture: "amd64", OS: "linux"}, RootFS: v1.RootFS{Type: "layers"}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
		im.Layers = append(im.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: l.Digest, Size: l.Size})
	}
	var err error
	if im.Config, err = c.addJSON(v1.MediaTypeImageConfig, config); err != nil {
		return im, err
	}
	im.Manifest, err = c.addJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Config: im.Config, Layers: im.Layers,
	})
	return im, err
}

func (c *catalog) addJSON(mediaType string, v any) (v1.Descriptor, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	return d, os.WriteFile(c.blobPath(d.Digest), body, 0o644)
}
