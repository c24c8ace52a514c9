package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// maxWaitingImages bounds the image tasks at which no more are found.
	maxWaitingImages = 200
	// catalogPause is how long finding them waits then.
	catalogPause = 2 * time.Second
)

// errLater: a task is not through, and its row says when it goes on.
var errLater = errors.New("it goes on later")

// Catalog queues the indexing of all images of an upstream that a pattern means:
// of the repositories that match, the tags that match tags, for which there is a
// rule. Platforms are as Image's. Where the upstream does not list what it has,
// what is known of it here is meant.
func (x *Indexer) Catalog(ctx context.Context, pattern oci.Repo, tags string, platforms []string) (storage.TaskRow, error) {
	if x.opt.Disabled {
		return storage.TaskRow{}, ErrDisabled
	}
	t := storage.TaskRow{
		Kind: storage.TaskCatalog, Repo: pattern, Reference: tags, Platforms: platforms, Priority: 1, Created: x.now().UTC(),
	}
	return t, x.putTasks(ctx, []storage.TaskRow{t})
}

// goThrough does the task of Catalog: image tasks are filed, in steps, each with
// how far it is, so that a restart goes on there, and a catalog of any size has
// few tasks at once.
func (x *Indexer) goThrough(ctx context.Context, t *storage.TaskRow) error {
	passed := false // over a repository, whose own task tells what becomes of it
	for ctx.Err() == nil {
		names, more, err := x.repositories(ctx, t)
		if err != nil {
			return err
		}
		for _, name := range names {
			repo := oci.Repo{Upstream: t.Repo.Upstream, Name: name}
			if !oci.MatchAny([]string{t.Repo.String()}, repo) {
				continue
			}
			over, err := x.goThroughTags(ctx, t, repo)
			if err != nil {
				return err
			}
			passed = passed || over
		}
		if !more || len(names) == 0 {
			break
		}
		t.After, t.AfterTag = names[len(names)-1], ""
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.Found == 0 && !passed {
		return permanent{fmt.Errorf("no image that a rule has indexed matches %s:%s", t.Repo, t.Reference)}
	}
	x.log.InfoContext(ctx, "catalog gone through", "pattern", t.Repo.String()+":"+t.Reference, "images", t.Found)
	return nil
}

// repositories gives those behind the one that was gone through last.
func (x *Indexer) repositories(ctx context.Context, t *storage.TaskRow) (names []string, more bool, err error) {
	if !strings.Contains(t.Repo.Name, "*") {
		if t.After == t.Repo.Name {
			return nil, false, nil
		}
		return []string{t.Repo.Name}, false, nil
	}
	err = ErrNotListed
	if x.opt.List != nil {
		names, more, err = x.opt.List.Repositories(ctx, t.Repo.Upstream, t.After)
	}
	if !errors.Is(err, ErrNotListed) {
		return names, more, err
	}
	x.log.InfoContext(ctx, "no catalog: what is known here is gone through", "upstream", t.Repo.Upstream, "why", err)
	err = x.store.View(ctx, func(tx storage.Tx) error {
		names = names[:0]
		return tx.TagRepos(func(repo oci.Repo) error {
			if repo.Upstream == t.Repo.Upstream && repo.Name > t.After {
				names = append(names, repo.Name)
			}
			return nil
		})
	})
	slices.Sort(names)
	return names, false, err
}

// goThroughTags files the tasks of one repository, behind the tag that was the
// last. passed says that it was passed over, with a task of its own.
func (x *Indexer) goThroughTags(ctx context.Context, t *storage.TaskRow, repo oci.Repo) (passed bool, err error) {
	for ctx.Err() == nil {
		tags, more, err := x.tagList(ctx, t, repo)
		if err != nil && ctx.Err() == nil && repo != t.Repo && t.Attempts+1 >= listTries {
			return true, x.passOver(ctx, t, repo, err)
		}
		if err != nil {
			return false, err
		}
		next := *t
		if more && len(tags) > 0 {
			next.AfterTag = repo.Name + ":" + tags[len(tags)-1]
		} else {
			next.After, next.AfterTag, more = repo.Name, "", false
		}
		if err := x.fileFound(ctx, t, next, repo, tags); err != nil || !more {
			return false, err
		}
	}
	return false, ctx.Err()
}

func (x *Indexer) tagList(ctx context.Context, t *storage.TaskRow, repo oci.Repo) (tags []string, more bool, err error) {
	last, _ := strings.CutPrefix(t.AfterTag, repo.Name+":")
	if last == t.AfterTag { // of another repository
		last = ""
	}
	err = ErrNotListed
	if x.opt.List != nil {
		tags, more, err = x.opt.List.TagList(ctx, repo, last)
	}
	switch {
	case errors.Is(err, storage.ErrNotFound): // gone since it was listed
		return nil, false, nil
	case !errors.Is(err, ErrNotListed):
		return tags, more, err
	}
	err = x.store.View(ctx, func(tx storage.Tx) error {
		tags = tags[:0]
		return tx.Tags(repo, last, func(row storage.TagRow) error {
			tags = append(tags, row.Tag)
			return nil
		})
	})
	return tags, false, err
}

// fileFound files the tasks of some tags together with how far that is; with too
// many waiting, or when t was cancelled, nothing is filed.
func (x *Indexer) fileFound(ctx context.Context, t *storage.TaskRow, next storage.TaskRow, repo oci.Repo, tags []string) error {
	var tasks []storage.TaskRow
	for _, tag := range tags {
		rule := x.ruleFor(named{repo, []string{tag}})
		if rule == nil || !oci.MatchWord(t.Reference, tag) || isReferrersTag(tag) || !isTag(tag) {
			continue
		}
		tasks = append(tasks, storage.TaskRow{
			Kind: storage.TaskImage, Repo: repo, Reference: tag, Platforms: t.Platforms,
			Priority: rule.Priority - 1, Created: x.now().UTC(), // what clients pull comes first
		})
	}
	next.Found += len(tasks)
	later := false
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		now, err := tx.Task(t.Kind, t.Repo, t.Reference)
		if err != nil || !now.Created.Equal(t.Created) {
			return errors.Join(errLater, ignoreNotFound(err)) // cancelled, or begun anew
		}
		waiting, err := waitingImages(tx)
		if err != nil {
			return err
		}
		if later = waiting >= maxWaitingImages; later {
			now.NotBefore = x.now().Add(catalogPause).UTC()
			now.After, now.AfterTag, now.Found = t.After, t.AfterTag, t.Found
			return tx.PutTask(now)
		}
		for _, task := range tasks {
			if err := putTask(tx, task); err != nil {
				return err
			}
		}
		next.Attempts, next.LastError = 0, "" // it goes on
		return tx.PutTask(next)
	})
	switch {
	case err != nil:
		return fmt.Errorf("file the images of %s: %w", repo, err)
	case later:
		return errLater
	}
	*t = next
	wake(x.toTask)
	return nil
}

// waitingImages counts image tasks that are to be done, up to the bound.
func waitingImages(tx storage.Tx) (n int, err error) {
	err = tx.Tasks(func(t storage.TaskRow) error {
		if t.Kind == storage.TaskImage && !t.Failed && !t.Cancelled {
			n++
		}
		if n >= maxWaitingImages {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return n, err
}

// isTag reports whether a tag that an upstream lists is one.
func isTag(s string) bool {
	ref, err := oci.ParseReference(s)
	return err == nil && ref.Tag == s
}

// isReferrersTag reports a tag that is made of a digest: of a list of referrers,
// or of a signature.
func isReferrersTag(tag string) bool {
	alg, rest, ok := strings.Cut(tag, "-")
	return ok && (alg == "sha256" || alg == "sha512") && len(rest) >= 64 && strings.Trim(rest[:64], "0123456789abcdef") == ""
}
