package proxy

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// arrived finds a manifest that another request has fetched since the caller
// looked in the rows: what was answered is under way to them, or in them by now.
// Hence this order. Of a tag, one that leads to want, if that is not "".
func (p *Proxy) arrived(ctx context.Context, up *Upstream, repo oci.Repo, ref oci.Reference, want digest.Digest) (found, bool) {
	if got, ok := p.filings.get(repo, ref); ok {
		return got, true
	}
	if up.Hosted { // what is a manifest elsewhere may be mere bytes there
		return found{}, false
	}
	if ref.Digest == "" {
		_, desc, err := p.knownTag(ctx, repo, ref.Tag)
		return found{desc: desc, out: outcomeHit}, err == nil && (want == "" || desc.Digest == want)
	}
	got := found{out: outcomeHit}
	ok := false
	err := p.store.View(ctx, func(tx storage.Tx) error {
		desc, blob, err := p.storedManifest(tx, ref.Digest)
		if err != nil {
			return err
		}
		got.desc, got.made = desc, blob.Kind == storage.KindIndex
		ok, err = p.has(tx, repo, ref.Digest, derivedFrom(blob))
		return err
	})
	return got, ok && err == nil
}
