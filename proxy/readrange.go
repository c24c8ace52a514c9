package proxy

import (
	"context"
	"io"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// ReadRange writes r of a blob to w, fetching what of it is not here as for a
// client that asks for this range. It asks for no right but the repository's own:
// it is for those who may read everything here.
func (p *Proxy) ReadRange(ctx context.Context, repo oci.Repo, d digest.Digest, r oci.Range, w io.Writer) error {
	up := p.routes().byName[repo.Upstream]
	if up == nil {
		return oci.NewError(errcode.ErrorCodeNameUnknown, "no upstream %q is configured here", repo.Upstream)
	}
	st, err := p.lookup(ctx, up, repo, d)
	if err != nil {
		return blobError(d, err)
	}
	a := &ask{up: up, repo: repo, d: d}
	if a.src, err = p.source(ctx, up, repo, d, st, []oci.RangeSpec{{First: r.Off, Last: r.End - 1}}); err != nil {
		return blobError(d, err)
	}
	defer func() { a.src.close() }()
	if _, err := p.prepare(ctx, a, r); err != nil {
		return a.fault(err)
	}
	return a.src.copyRange(ctx, w, r)
}
