package indexer

import (
	"context"
	"slices"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// isCopied reports whether somebody pushed a converted image under a tag of their own,
// which still leads to it: to delete the image would take that tag, too.
func (x *Indexer) isCopied(ctx context.Context, row *storage.PublishedRow) (bool, error) {
	var tags []string
	err := x.store.View(ctx, func(tx storage.Tx) error {
		tags = nil
		return tx.TagsOf(row.Index, func(repo oci.Repo, tag string) error {
			if repo == row.Repo && !slices.Contains(row.Tags, tag) && !slices.Contains(row.Pushing, tag) {
				tags = append(tags, tag)
			}
			return nil
		})
	})
	if err != nil {
		return false, err
	}
	for _, tag := range tags {
		d, err := x.opt.Publish.Manifest(ctx, row.Repo, oci.Reference{Tag: tag})
		if err = ignoreNotFound(err); err != nil {
			return false, err
		}
		if d == row.Index {
			x.log.InfoContext(ctx, "converted image stays: another tag leads to it", "repo", row.Repo.String(), "index", row.Index, "tag", tag)
			return true, nil
		}
	}
	return false, nil
}
