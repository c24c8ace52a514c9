package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/oci"
)

// placeFlags say where zTOCs and layers are looked for by their digests.
type placeFlags struct {
	storeFlags
	layout string
}

func (f *placeFlags) register(cmd *cobra.Command) {
	f.storeFlags.register(cmd)
	cmd.Flags().StringVar(&f.layout, "layout", "", "look into the OCI `LAYOUT` instead of a store")
}

func (f *placeFlags) place() (place, error) {
	if f.layout == "" {
		return place{dataDir: f.dataDir}, nil
	}
	l, ok := openLayout(f.layout)
	if !ok {
		return place{}, fmt.Errorf("%s is no OCI layout", f.layout)
	}
	return place{layout: &l}, nil
}

// place is a store, or an OCI layout.
type place struct {
	dataDir string
	layout  *layout // nil: the store in dataDir
}

func (p place) String() string {
	if p.layout != nil {
		return "layout " + p.layout.dir
	}
	return "the store"
}

// blob opens a blob. In a store it is verified and never changes, so that it may
// be read while a server owns it. fs.ErrNotExist.
func (p place) blob(d digest.Digest) (*os.File, error) {
	if _, err := oci.ParseDigest(d.String()); err != nil {
		return nil, err
	}
	path := filepath.Join(p.dataDir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
	if p.layout != nil {
		path = p.layout.blob(d)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not in %s: %w", d, p, err)
	}
	return f, err
}

// indexes lists the images, and how far their indexes are.
func (p place) indexes(ctx context.Context) (list []IndexInfo, err error) {
	if p.layout != nil {
		return p.layout.layoutIndexes()
	}
	err = withStore(ctx, p.dataDir, func(api adminAPI) error {
		list, err = api.Indexes(ctx)
		return err
	})
	return list, err
}

// ztocs lists the zTOCs of all images, or of those that word means, each once.
func (p place) ztocs(ctx context.Context, word string) ([]StoredZTOC, error) {
	images, err := p.indexes(ctx)
	if err != nil {
		return nil, err
	}
	if images, err = p.meant(images, word); err != nil {
		return nil, err
	}
	return zTOCsOf(images), nil
}

func zTOCsOf(images []IndexInfo) (list []StoredZTOC) {
	for _, x := range images {
		for _, l := range x.Layers {
			if z := (StoredZTOC{l.ZTOC, l.ZTOCSize, l.Digest}); z.Digest != "" && !slices.Contains(list, z) {
				list = append(list, z)
			}
		}
	}
	return list
}

// ztoc finds the one zTOC whose digest begins with word.
func (p place) ztoc(ctx context.Context, word string) (StoredZTOC, error) {
	images, err := p.indexes(ctx)
	if err != nil {
		return StoredZTOC{}, err
	}
	list := slices.DeleteFunc(zTOCsOf(images), func(z StoredZTOC) bool { return !strings.HasPrefix(z.Digest.String(), word) })
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		return StoredZTOC{}, p.noZTOC(images, word)
	}
	return StoredZTOC{}, fmt.Errorf("%q could mean %d zTOCs; name one by its digest", word, len(list))
}

// noZTOC says what word is instead of a zTOC, as far as that is known.
func (p place) noZTOC(images []IndexInfo, word string) error {
	for _, x := range images {
		switch {
		case strings.HasPrefix(x.Index.String(), word):
			return fmt.Errorf("%s is a SOCI index, no zTOC: see sociable index info", word)
		case strings.HasPrefix(x.Manifest.String(), word):
			return fmt.Errorf("%s is an image, no zTOC: see sociable index info", word)
		}
		for _, l := range x.Layers {
			if strings.HasPrefix(l.Digest.String(), word) {
				return fmt.Errorf("%s is a layer, no zTOC; that of it is %s", word, orDash(l.ZTOC.String()))
			}
		}
	}
	return fmt.Errorf("no zTOC %s in %s; sociable ztoc list shows what there is", word, p)
}

// layer opens a layer in whole: a file, or the digest, or the beginning of the
// digest of a layer that has a zTOC here.
func (p place) layer(ctx context.Context, word string) (*os.File, error) {
	f, _, err := openFile("layer", word)
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(word, "sha") {
		return f, err
	}
	d, err := oci.ParseDigest(word)
	if err != nil {
		if d, err = p.layerDigest(ctx, word); err != nil {
			return nil, err
		}
	}
	if f, err = p.blob(d); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("layer %s is not whole in %s", d, p)
	}
	return f, err
}

func (p place) layerDigest(ctx context.Context, word string) (digest.Digest, error) {
	list, err := p.ztocs(ctx, "")
	if err != nil {
		return "", err
	}
	var found []digest.Digest
	for _, z := range list {
		if strings.HasPrefix(z.LayerDigest.String(), word) && !slices.Contains(found, z.LayerDigest) {
			found = append(found, z.LayerDigest)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no layer %s with a zTOC in %s", word, p)
	}
	return "", fmt.Errorf("%q could mean %d layers; name one by its digest", word, len(found))
}
