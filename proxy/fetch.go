package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// ResolveTag asks where a tag of repo leads; what is known from before is no
// answer, unless the upstream is never asked. storage.ErrNotFound.
func (p *Proxy) ResolveTag(ctx context.Context, repo oci.Repo, tag string) (digest.Digest, error) {
	x, err := p.puller(repo)
	if err != nil {
		return "", err
	}
	x.o.Fresh = true
	d, err := x.root(ctx, oci.Reference{Tag: tag})
	if err == nil && x.got.Unchecked != "" {
		err = errors.New(x.got.Unchecked)
	}
	return d.Digest, absent(err)
}

// FetchManifest has a manifest of repo stored, as a client's request would.
// storage.ErrNotFound when the upstream has it not.
func (p *Proxy) FetchManifest(ctx context.Context, repo oci.Repo, d digest.Digest) error {
	x, err := p.puller(repo)
	if err == nil {
		_, _, err = x.read(ctx, d)
	}
	return absent(err)
}

// FetchBlob has a blob of repo whole in the store, and returns when it is.
// storage.ErrNotFound, storage.ErrFull.
func (p *Proxy) FetchBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor) error {
	x, err := p.puller(repo)
	if err == nil {
		err = x.blob(ctx, d)
	}
	return absent(err)
}

func (p *Proxy) puller(repo oci.Repo) (*pull, error) {
	up := p.routes().byName[repo.Upstream]
	if up == nil {
		return nil, oci.NewError(errcode.ErrorCodeNameUnknown, "no upstream %q is configured here", repo.Upstream)
	}
	return &pull{p: p, up: up, repo: repo, seen: map[digest.Digest]bool{}}, nil
}

// absent says in the store's words that an upstream has nothing by a name.
func absent(err error) error {
	if err != nil && upstream.IsNotFound(err) && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	}
	return err
}
