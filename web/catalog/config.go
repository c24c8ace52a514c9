package catalog

import (
	"context"
	"encoding/json"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Opener opens blobs that are here; *storage.Store is one.
type Opener interface {
	Open(ctx context.Context, d digest.Digest) (storage.Blob, error)
}

// maxConfig bounds how much of an image's config is read.
const maxConfig = 4 << 20

// ReadConfig reads an image's config; false where it is not here, or is none.
func ReadConfig(ctx context.Context, from Opener, config digest.Digest) (c v1.Image, ok bool) {
	if config == "" {
		return c, false
	}
	b, err := from.Open(ctx, config)
	if err != nil {
		return c, false // it is not here, and nothing is lost
	}
	defer b.Close()
	err = json.NewDecoder(io.NewSectionReader(b, 0, min(b.Size(), maxConfig))).Decode(&c)
	return c, err == nil
}

// platform is what an image's config says; known is false where it may be known
// later, since the config is not here yet.
func (c *Catalog) platform(ctx context.Context, config digest.Digest) (name string, known bool) {
	if c.blobs == nil || config == "" {
		return "", true
	}
	x, ok := ReadConfig(ctx, c.blobs, config)
	if !ok || x.OS == "" || x.Architecture == "" {
		return "", ok
	}
	return oci.PlatformName(x.Platform), true
}

// unnamed are images of which no platform is known, and how often their configs
// were looked for: they come shortly behind the manifests, and no row of an image
// changes then.
type unnamed map[digest.Digest]int

const (
	mostLooks   = 5
	mostUnnamed = 10_000
)

func (u unnamed) note(d digest.Digest, known bool) {
	switch {
	case known, u[d] >= mostLooks:
		delete(u, d)
	case u[d] > 0 || len(u) < mostUnnamed:
		u[d]++
	}
}
