package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// withBody adds the bytes. Where they turn out not to be here any more, or to be
// others, upstream is asked for them as if they had never been here: "unknown" would
// be final for the client.
func (p *Proxy) withBody(ctx context.Context, up *Upstream, repo oci.Repo, got found) (found, error) {
	body, err := p.manifestBody(ctx, got)
	if errors.Is(err, storage.ErrNotFound) && !up.Hosted && !got.made {
		fetched, ferr := p.fetchManifest(ctx, up, repo, oci.Reference{Digest: got.desc.Digest}, "")
		if ferr != nil {
			return got, ferr
		}
		fetched.stale = got.stale
		got = fetched
		body, err = p.manifestBody(ctx, got)
	}
	got.body = body
	return got, err
}

// manifestBody gives a manifest's bytes, from memory or the store: they are read
// once, and compared then. ErrNotFound, also of what is found to be damaged.
func (p *Proxy) manifestBody(ctx context.Context, got found) ([]byte, error) {
	if got.body != nil {
		return got.body, nil
	}
	desc := got.desc
	if m, ok := p.bodies.get(desc.Digest); ok {
		return m.body, nil
	}
	b, err := p.store.Open(ctx, desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("open manifest %s: %w", desc.Digest, err)
	}
	body := make([]byte, b.Size())
	_, err = b.ReadAt(body, 0)
	if cerr := b.Close(); err == nil || errors.Is(err, io.EOF) {
		err = cerr
	}
	if err == nil && desc.Digest.Algorithm().FromBytes(body) == desc.Digest {
		p.bodies.put(desc.Digest, cachedManifest{desc, body})
		return body, nil
	}
	if derr := p.store.DropWrong(ctx, desc.Digest); derr != nil {
		return nil, errors.Join(err, derr)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	return nil, fmt.Errorf("manifest %s is damaged: %w", desc.Digest, storage.ErrNotFound)
}
