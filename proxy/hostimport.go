package proxy

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Hosts reports whether repo is in a namespace that is hosted here.
func (p *Proxy) Hosts(repo oci.Repo) bool {
	up := p.routes().byName[repo.Upstream]
	return up != nil && up.Hosted
}

// Host files an image in a hosted repository as if it had been pushed there, all
// of which is in the store: its blobs, then its manifests and tags. An operator
// does it, so that read-only namespaces take it, too; quotas, blocks and
// immutable tags count, and their *oci.Error says so.
func (p *Proxy) Host(ctx context.Context, repo oci.Repo, blobs []digest.Digest, manifests []storage.ManifestRow, tags map[string]digest.Digest) error {
	up := p.routes().byName[repo.Upstream]
	if up == nil || !up.Hosted {
		return fmt.Errorf("host in %s: it is not hosted here", repo)
	}
	now := p.now().UTC()
	for _, d := range blobs {
		err := p.store.Host(ctx, d, func(tx storage.Tx) error {
			blob, err := tx.Blob(d)
			if err != nil {
				return err
			}
			row := storage.ContentRow{Repo: repo, Digest: d, Size: blob.Size, Pushed: now}
			return p.holdContent(tx, up, row)
		})
		if err != nil {
			return fmt.Errorf("host blob %s in %s: %w", d, repo, err)
		}
	}
	return p.store.Update(ctx, func(tx storage.Tx) error {
		for _, m := range manifests {
			row := storage.ContentRow{Repo: repo, Digest: m.Digest, Size: m.Size, Manifest: true, Pushed: now}
			if err := p.holdContent(tx, up, row); err != nil {
				return err
			}
			if err := putReferrer(tx, repo, &pushed{row: m}); err != nil {
				return err
			}
			if err := p.reclaim(tx, up, repo, m.Digest); err != nil {
				return err
			}
		}
		for tag, d := range tags {
			if err := mayMove(tx, up, repo, tag, d); err != nil {
				return err
			}
			if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: d, Checked: now}); err != nil {
				return err
			}
		}
		return nil
	})
}
