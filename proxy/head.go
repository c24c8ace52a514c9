package proxy

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// headOf asks up for the size of d in repo, a blob or a manifest, and remembers that
// repo has it. Who asks the same of the same repository meanwhile waits for that
// answer, which is forgotten with it; who leaves takes it from nobody.
//
// That repo has d is true for all who may read repo. Why it did not answer is another
// caller's own affair where it is asked in callers' names. And where pushes go through,
// what it did not have may have been pushed since it was asked.
func (p *Proxy) headOf(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, manifest bool) (int64, error) {
	ask := func(ctx context.Context) (n int64, err error) {
		if manifest {
			desc, herr := up.Registry.HeadManifest(ctx, repo.Name, oci.Reference{Digest: d})
			n, err = desc.Size, herr
		} else {
			n, err = up.Registry.HeadBlob(ctx, repo.Name, d)
		}
		if err == nil {
			p.grant(up, repo, d)
		}
		return n, err
	}
	key := fmt.Sprintf("%s@%s %t %s", repo, d, manifest, up.Identity)
	c, mine := p.heads.join(ctx, key, ask)
	n, err := p.heads.wait(ctx, c)
	switch {
	case err == nil, mine, ctx.Err() != nil:
		return n, err
	case up.AsCaller != nil:
		key = p.heads.ownKey(key)
	case up.pusher() == nil:
		return n, err
	}
	c, _ = p.heads.join(ctx, key, ask) // begun after we came, whoever began it
	return p.heads.wait(ctx, c)
}
