package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxTags bounds the tags of one repository that TagsOf lists.
const maxTags = 100_000

// TagsOf lists all tags of a repository as its upstream does, or as they are
// known here where that is offline, or hosted: none of what nobody has pushed yet.
func (p *Proxy) TagsOf(ctx context.Context, repo oci.Repo) (tags []string, err error) {
	up := p.routes().byName[repo.Upstream]
	if up == nil || up.Registry == nil && !up.Hosted {
		return nil, fmt.Errorf("list tags: no upstream %q is configured here", repo.Upstream)
	}
	for more, last := true, ""; more; {
		var page []string
		page, more, err = p.listTags(ctx, up, repo, 1000, last)
		if up.Hosted && errors.Is(err, storage.ErrNotFound) {
			return nil, nil // it may be pushed yet
		}
		if err != nil {
			return nil, err
		}
		tags = append(tags, page...)
		if len(page) == 0 || len(tags) >= maxTags {
			break
		}
		last = page[len(page)-1]
	}
	return tags, nil
}

// Active is how many requests are being answered.
func (p *Proxy) Active() int { return int(p.active.Load()) }
