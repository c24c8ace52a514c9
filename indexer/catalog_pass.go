package indexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// listTries is how often the tags of a repository are asked for until its catalog goes
// on without it. An upstream that is in trouble as a whole is often through with it by
// then.
const listTries = 3

// passOver has the catalog t go on behind repo, whose tags could not be listed for
// cause. What is left of repo is a catalog task of its own, which is tried again and
// in the end given up like any other, where people see it.
func (x *Indexer) passOver(ctx context.Context, t *storage.TaskRow, repo oci.Repo, cause error) error {
	own := storage.TaskRow{
		Kind: storage.TaskCatalog, Repo: repo, Reference: t.Reference, Platforms: t.Platforms, Priority: t.Priority,
		Attempts: listTries, NotBefore: x.now().Add(backoff(listTries)).UTC(), LastError: clip(cause.Error()), Created: x.now().UTC(),
	}
	next := *t
	next.After, next.AfterTag, next.Attempts, next.LastError = repo.Name, "", 0, ""
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		now, err := tx.Task(t.Kind, t.Repo, t.Reference)
		if err != nil || !now.Created.Equal(t.Created) {
			return errors.Join(errLater, ignoreNotFound(err)) // cancelled, or begun anew
		}
		if err := putTask(tx, own); err != nil {
			return err
		}
		return tx.PutTask(next)
	})
	switch {
	case errors.Is(err, errLater):
		return err
	case err != nil:
		return fmt.Errorf("pass over %s: %w", repo, err)
	}
	x.log.WarnContext(ctx, "catalog goes on without a repository, which is tried again by itself", "pattern", t.Repo.String()+":"+t.Reference, "repo", repo.String(), "err", cause)
	*t = next
	wake(x.toTask)
	return nil
}
