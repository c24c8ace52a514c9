package main

import (
	"context"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/referrers"
)

// isHosted tells the namespaces that images are pushed to from the upstreams.
func isHosted(ups []*proxy.Upstream) func(string) bool {
	hosted := map[string]bool{}
	for _, u := range ups {
		hosted[u.Name] = u.Hosted
	}
	return func(name string) bool { return hosted[name] }
}

// askReferrers asks an upstream by its client. A refusal of credentials of our
// own is trouble with them; without any it is an answer: nobody may see them.
func askReferrers(ups []*proxy.Upstream, clients map[string]*upstream.Client, acc *door) referrers.Upstream {
	ours := map[string]bool{}
	for _, u := range ups {
		ours[u.Name] = u.Credentials || u.AsCaller != nil // one caller's refusal is no answer for all
	}
	return func(ctx context.Context, repo oci.Repo, subject digest.Digest) ([]v1.Descriptor, error) {
		client := clients[repo.Upstream]
		if client == nil { // a namespace without a registry behind it
			return nil, nil
		}
		ctx = upstream.As(ctx, caller(acc.SessionOf(ctx, repo.Upstream)))
		list, err := client.Referrers(ctx, repo.Name, subject, "")
		if upstream.IsDenied(err) && !ours[repo.Upstream] {
			return nil, nil
		}
		return list, err
	}
}
