package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxConfig bounds the config of an image that is read.
const maxConfig = 4 << 20

// otherPlatform refuses an image that is no index and is for none of the platforms
// that are wanted, as far as its config says. One that says nothing is taken.
func (x *pull) otherPlatform(ctx context.Context) error {
	if !x.o.Strict || len(x.o.Platforms) == 0 || x.config == nil || len(x.got.Blobs) == 0 {
		return nil
	}
	is, err := x.p.configPlatform(ctx, *x.config)
	if err != nil || is == nil {
		return err
	}
	if slices.ContainsFunc(x.o.Platforms, func(want v1.Platform) bool { return oci.SameMachine(want, *is) }) {
		return nil
	}
	var wanted []string
	for _, p := range x.o.Platforms {
		wanted = append(wanted, oci.PlatformName(p))
	}
	return oci.NewError(errcode.ErrorCodeManifestUnknown, "it is for %s alone, not for %s", oci.PlatformName(*is), strings.Join(wanted, ", "))
}

// configPlatform is what a config that is here says that its image is for; nil: it is
// no image's config, or is not kept.
func (p *Proxy) configPlatform(ctx context.Context, d v1.Descriptor) (*v1.Platform, error) {
	b, err := p.store.Open(ctx, d.Digest)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read config %s: %w", d.Digest, err)
	}
	body, err := io.ReadAll(io.NewSectionReader(b, 0, min(b.Size(), maxConfig)))
	if err = errors.Join(err, b.Close()); err != nil {
		return nil, fmt.Errorf("read config %s: %w", d.Digest, err)
	}
	var is v1.Platform
	if json.Unmarshal(body, &is) != nil || is.OS == "" || is.Architecture == "" {
		return nil, nil //nolint:nilerr // a config that tells none is of no platform
	}
	return &is, nil
}
