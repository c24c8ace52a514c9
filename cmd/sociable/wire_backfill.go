package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/web"
)

// lister lists what upstreams have. Of a hosted namespace, and of an upstream that
// is not asked, what is known here is all there is.
type lister struct{ *live }

// listed is how many are asked for at once.
const listed = 100

func (l lister) Repositories(ctx context.Context, name, last string) ([]string, bool, error) {
	c := l.client(name)
	if c == nil {
		return nil, false, indexer.ErrNotListed
	}
	names, more, err := c.Catalog(ctx, listed, last)
	return names, more, notListed(err)
}

func (l lister) TagList(ctx context.Context, repo oci.Repo, last string) ([]string, bool, error) {
	c := l.client(repo.Upstream)
	if c == nil {
		return nil, false, indexer.ErrNotListed
	}
	tags, more, err := c.Tags(ctx, repo.Name, listed, last)
	if upstream.IsNotFound(err) || upstream.IsDenied(err) {
		err = errors.Join(indexer.ErrNotListed, err)
	}
	return tags, more, notListed(err)
}

func notListed(err error) error {
	if errors.Is(err, upstream.ErrNoCatalog) || errors.Is(err, upstream.ErrOffline) {
		return fmt.Errorf("%w: %w", indexer.ErrNotListed, err)
	}
	return err
}

// backfill has all images that a pattern means indexed.
func backfill(px *proxy.Proxy, ix *indexer.Indexer) web.Backfill {
	return func(ctx context.Context, pattern string, platforms []string) (web.Job, error) {
		repo, tags, err := px.Pattern(pattern)
		if err != nil {
			return web.Job{}, err
		}
		task, err := ix.Catalog(ctx, repo, tags, platforms)
		return web.JobOf(&task), err
	}
}
