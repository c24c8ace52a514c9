package main

import (
	"context"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/referrers"
)

// isHosted tells the namespaces that images are pushed to from the upstreams.
func isHosted(l *live) func(string) bool {
	return func(name string) bool {
		u := l.now.Load().upstream(name)
		return u != nil && u.Hosted
	}
}

// askReferrers asks an upstream by its client. A refusal of credentials of our
// own is trouble with them; without any it is an answer: nobody may see them.
func askReferrers(l *live, acc *door) referrers.Upstream {
	return func(ctx context.Context, repo oci.Repo, subject digest.Digest) ([]v1.Descriptor, error) {
		now := l.now.Load()
		up := now.upstream(repo.Upstream)
		client := now.clients[repo.Upstream]
		if client == nil || up == nil { // a namespace without a registry behind it
			return nil, nil
		}
		ctx = upstream.As(ctx, caller(acc.SessionOf(ctx, repo.Upstream)))
		list, err := client.Referrers(ctx, repo.Name, subject, "")
		if upstream.IsDenied(err) && !up.Credentials && up.AsCaller == nil {
			return nil, nil
		}
		return list, err
	}
}
