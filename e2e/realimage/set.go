package realimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Names of the layers that are made, beside those of BadLayers.
const (
	LayerBase   = "base"   // Debian's essential packages, Go's gzip
	LayerCerts  = "certs"  // openssl and CA certificates: under 10 MiB, never indexed
	LayerGo     = "go"     // Debian's Go tool chain, gzip(1): over 100 MB
	LayerPython = "python" // Python and git, klauspost's gzip: a small layer that is indexed
	LayerTar    = "tar"    // the same files as a bare tar
	LayerZstd   = "zstd"   // the same files, zstd
	LayerBig    = "big"    // Rust and Java, klauspost's gzip: about 300 MB
)

// recipe is a layer of packages: all that the names need and that no layer
// below has.
type recipe struct {
	layer string
	above []string // layers whose packages are left out
	names []string
	pack  compressor
}

var recipes = []recipe{
	{LayerBig, []string{LayerBase, LayerCerts}, []string{"rustc", "openjdk-17-jre-headless"}, klauspost},
	{LayerGo, []string{LayerBase, LayerCerts}, []string{"golang-1.19"}, gnuGzip},
	{LayerBase, nil, []string{"?essential", "apt"}, goGzip},
	{LayerCerts, []string{LayerBase}, []string{"ca-certificates"}, goGzip},
	{LayerPython, []string{LayerBase, LayerCerts}, []string{"python3", "git"}, klauspost},
	{LayerTar, []string{LayerBase, LayerCerts}, []string{"python3", "git"}, plain},
	{LayerZstd, []string{LayerBase, LayerCerts}, []string{"python3", "git"}, zstandard},
}

// version is raised when the recipes or the way to make layers change.
const version = "1"

// Set is the images and layers of a layout.
type Set struct {
	Dir    string // the OCI image layout
	Layers map[string]Layer
	Images map[string]Image
}

// Prepare makes what dir does not hold yet. The first run takes minutes and
// fetches some 300 MB of packages; the others read one file.
func Prepare(ctx context.Context, dir string) (*Set, error) {
	s := &Set{Dir: filepath.Join(dir, "layout-"+version)}
	if err := os.MkdirAll(s.blobs(), 0o755); err != nil {
		return nil, err
	}
	err := s.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeLayers(ctx, apt{filepath.Join(dir, "apt")}); err == nil {
			err = s.save()
		}
	}
	if err == nil {
		err = s.makeImages()
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the images: %w", err)
	}
	return s, nil
}

// Open opens any blob of the layout.
func (s *Set) Open(d digest.Digest) (*os.File, error) {
	return os.Open(filepath.Join(s.blobs(), d.Encoded()))
}

// BadLayers are the layers that no index can be offered for, by name: not-gzip,
// corrupt-gzip, cut-gzip, gzip-junk, not-tar, cut-tar, tar-checksum, tar-size,
// pax-huge, pax-global; link-size and empty-block, which the official builder
// indexes and the official client then refuses; encrypted and zstd, which are
// skipped by type.
func (s *Set) BadLayers() []Layer {
	var ls []Layer
	for _, b := range badLayers {
		ls = append(ls, s.Layers[b.name])
	}
	return append(ls, s.Layers[LayerZstd])
}

func (s *Set) blobs() string { return filepath.Join(s.Dir, "blobs", "sha256") }

func (s *Set) list() string { return filepath.Join(s.Dir, "layers.json") }

func (s *Set) load() error {
	body, err := os.ReadFile(s.list())
	if err != nil {
		return err
	}
	return json.Unmarshal(body, &s.Layers)
}

// save is the last step: a list means that all of its layers are complete.
func (s *Set) save() error {
	body, err := json.MarshalIndent(s.Layers, "", "  ")
	if err != nil {
		return err
	}
	tmp := s.list() + ".tmp"
	if err := os.WriteFile(tmp, append(body, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.list())
}

func (s *Set) makeLayers(ctx context.Context, a apt) error {
	if err := s.pack(ctx, a, recipes); err != nil {
		return err
	}
	good, err := readLayer(s.blobs(), s.Layers[LayerPython])
	if err != nil {
		return err
	}
	for _, b := range badLayers {
		l, err := writeBad(s.blobs(), b, good)
		if err != nil {
			return err
		}
		s.Layers[l.Name] = l
	}
	return nil
}

// pack makes the layers of recipes, two at a time.
func (s *Set) pack(ctx context.Context, a apt, recipes []recipe) error {
	files, err := fetchPackages(ctx, a, recipes)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(2)
	made := make([]Layer, len(recipes))
	for i, r := range recipes {
		g.Go(func() (err error) {
			made[i], err = writeLayer(s.blobs(), r.layer, r.pack, func(w io.Writer) (int, error) {
				return packageTar(ctx, w, files[r.layer])
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.Layers = map[string]Layer{}
	for _, l := range made {
		s.Layers[l.Name] = l
	}
	return nil
}

// fetchPackages gives the package files of each recipe, in the order of names.
func fetchPackages(ctx context.Context, a apt, recipes []recipe) (map[string][]string, error) {
	if err := a.update(ctx); err != nil {
		return nil, err
	}
	sets := map[string]map[string]string{}
	for _, r := range recipes {
		debs, err := a.resolve(ctx, r.names)
		if err != nil {
			return nil, err
		}
		sets[r.layer] = debs
	}
	files := map[string][]string{}
	for _, r := range recipes {
		dir, err := a.download(ctx, r.names)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(sets[r.layer])) {
			if !slices.ContainsFunc(r.above, func(l string) bool { return sets[l][name] != "" }) {
				files[r.layer] = append(files[r.layer], filepath.Join(dir, sets[r.layer][name]))
			}
		}
	}
	return files, nil
}
