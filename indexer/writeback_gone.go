package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Deleted says that the manifest d was deleted at repo's upstream: it is no image of
// repo any more, and what was brought there for it is to go, too. That is filed;
// nothing waits for it.
func (x *Indexer) Deleted(ctx context.Context, repo oci.Repo, d digest.Digest) {
	filed := false
	err := x.store.Update(ctx, func(tx storage.Tx) (err error) {
		filed, err = x.fileDeleted(tx, repo, d)
		return err
	})
	if err != nil {
		x.log.ErrorContext(ctx, "what was pushed for a deleted image stays at the upstream", "repo", repo.String(), "digest", d, "err", err)
	}
	if filed {
		wake(x.toTask)
	}
}

// fileDeleted also has a push begin anew that is under way, or waits, or was given up
// or cancelled: it was about an image that is not there any more.
func (x *Indexer) fileDeleted(tx storage.Tx, repo oci.Repo, d digest.Digest) (filed bool, err error) {
	if err := storage.LeaveImage(tx, repo, d); err != nil || x.opt.Publish == nil {
		return false, err
	}
	rows, err := publishedIn(tx, repo, d)
	for _, row := range rows {
		row.Gone = true
		err = errors.Join(err, tx.PutPublished(row))
	}
	if err != nil {
		return false, err
	}
	was, err := tx.Task(storage.TaskPush, repo, d.String())
	if err != nil && len(rows) == 0 {
		return false, ignoreNotFound(err)
	}
	if err = ignoreNotFound(err); err != nil {
		return false, err
	}
	p, err := x.planPush(tx, repo, d)
	if err != nil {
		return false, err
	}
	t := p.task(x)
	if !t.Created.After(was.Created) { // so that it is seen that it was filed anew
		t.Created = was.Created.Add(1)
	}
	return true, tx.PutTask(t)
}

// publishedIn are the rows of a subject in repo.
func publishedIn(tx storage.Tx, repo oci.Repo, subject digest.Digest) (rows []storage.PublishedRow, err error) {
	err = tx.PublishedOf(subject, func(row storage.PublishedRow) error {
		if row.Repo == repo {
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

func isGone(row storage.PublishedRow) bool { return row.Gone }

// planGone looks whether the deleted subject was seen since.
func (p *pushPlan) planGone(tx storage.Tx) error {
	img, err := tx.Image(p.subject)
	p.gone, p.again = true, err == nil && slices.Contains(img.Repos, p.repo)
	if err = ignoreNotFound(err); err != nil {
		return err
	}
	return tx.TagsOf(p.subject, func(repo oci.Repo, _ string) error {
		p.again = p.again || repo == p.repo
		return nil
	})
}

// whatGone is what the task of a withdrawal stands for: that of an image which came
// by again is another one, so that it is not left at what was given up.
func (p *pushPlan) whatGone() []string {
	switch {
	case !p.gone:
		return nil
	case p.again:
		return []string{"gone", "again"}
	}
	return []string{"gone"}
}

func (x *Indexer) viewPush(ctx context.Context, t *storage.TaskRow) (p pushPlan, err error) {
	err = x.store.View(ctx, func(tx storage.Tx) (err error) {
		p, err = x.planPush(tx, t.Repo, digest.Digest(t.Reference))
		return err
	})
	p.filed = t.Created
	return p, err
}

// isCurrent gives errChanged where the task of p was filed anew, or is there no more.
func (p *pushPlan) isCurrent(tx storage.Tx) error {
	t, err := tx.Task(storage.TaskPush, p.repo, p.subject.String())
	if err = ignoreNotFound(err); err == nil && !t.Created.Equal(p.filed) {
		err = errChanged
	}
	return err
}

// comeBack has what was to be taken away be pushed again, since its subject is there
// again. When that was deleted, the upstream may have deleted what refers to it.
func (x *Indexer) comeBack(ctx context.Context, p *pushPlan) error {
	return x.store.Update(ctx, func(tx storage.Tx) error {
		if err := p.isCurrent(tx); err != nil {
			return err
		}
		rows, err := publishedIn(tx, p.repo, p.subject)
		for _, row := range rows {
			if !row.Made { // whatever was in its way may be gone
				err = errors.Join(err, tx.DeletePublished(row.Repo, row.Subject, row.Index))
				continue
			}
			row.Gone, row.Begun = false, !row.V2 && !row.Unlisted
			row.Tags, row.Pushing = nil, append(without(row.Pushing, row.Tags), row.Tags...)
			err = errors.Join(err, tx.PutPublished(row))
		}
		return err
	})
}

// takeAway takes from an upstream what was brought there for an image that was
// deleted. What was there before stays.
func (x *Indexer) takeAway(ctx context.Context, p *pushPlan) error {
	var failed error
	for _, row := range p.rows {
		var err error
		switch {
		case !row.Made:
			err = x.forgetPublished(ctx, &row)
		case row.V2:
			err = x.takeAwayV2(ctx, p, &row)
		default:
			err = x.unlist(ctx, p, []storage.PublishedRow{row})
		}
		if err != nil {
			failed = bothForms(failed, lasting(fmt.Errorf("take away what was pushed: %w", err)))
			continue
		}
		if row.Made {
			x.log.InfoContext(ctx, "index taken away: its image was deleted", "repo", p.repo.String(), "digest", p.subject, "index", row.Index, "tags", row.Tags)
		}
	}
	return failed
}

// unlist takes what was pushed from here, and is replaced, away from upstream. One
// that does not delete is an error as long as it lists it, and its row stays; what
// else there is to do does not wait for that.
func (x *Indexer) unlist(ctx context.Context, p *pushPlan, replaced []storage.PublishedRow) error {
	var kept error
	for _, r := range replaced {
		err := x.opt.Publish.Unlist(ctx, p.repo, p.subject, r.Index, r.Fallback || r.Begun) // of which it is not known
		if errors.Is(err, ErrRefused) {
			still, lerr := x.stillListed(ctx, p, r.Index)
			if lerr != nil {
				return lerr
			}
			if still {
				kept = errors.Join(kept, fmt.Errorf("the upstream still lists %s: delete it there, or permit deletion, and have this tried again: %w", whyGoes(&r), err))
				continue
			}
			if !r.Gone { // its bytes are nobody's trouble, but they may be listed again
				r.Unlisted, r.Begun = true, false
				if err := x.store.Update(ctx, func(tx storage.Tx) error { return tx.PutPublished(r) }); err != nil {
					return err
				}
				continue
			}
			err = nil
		}
		if err == nil {
			err = x.forgetPublished(ctx, &r)
		}
		if err != nil {
			return err
		}
	}
	return kept
}

// stillListed reports whether the upstream lists a SOCI v1 index.
func (x *Indexer) stillListed(ctx context.Context, p *pushPlan, index digest.Digest) (bool, error) {
	list, err := x.opt.Publish.Referrers(ctx, p.repo, p.subject, oci.MediaTypeSOCIIndexV1)
	return slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.Digest == index }), err
}

// takeAwayV2 deletes a converted image by its digest, and with it the tags that lead
// to it; those that lead elsewhere by now stay. One that is not deleted is an error as
// long as a tag leads to it.
func (x *Indexer) takeAwayV2(ctx context.Context, p *pushPlan, row *storage.PublishedRow) error {
	shared, err := x.isShared(ctx, row)
	if err != nil {
		return err
	}
	if !shared {
		err = x.opt.Publish.Unlist(ctx, p.repo, p.subject, row.Index, false)
	}
	if errors.Is(err, ErrRefused) {
		tags, terr := x.leadTo(ctx, row)
		if terr != nil {
			return terr
		}
		if len(tags) > 0 {
			return fmt.Errorf("the upstream still has %s: delete it there, or permit deletion, and have this tried again (%s leads to it): %w",
				whyGoes(row), strings.Join(tags, ", "), err)
		}
		err = nil // its bytes are nobody's trouble
	}
	if err != nil {
		return err
	}
	return x.forgetPublished(ctx, row)
}

// isShared reports whether a converted image is that of another image, too, which
// was not deleted, or was copied.
func (x *Indexer) isShared(ctx context.Context, row *storage.PublishedRow) (shared bool, err error) {
	err = x.store.View(ctx, func(tx storage.Tx) error {
		return tx.AllPublished(func(r storage.PublishedRow) error {
			shared = shared || r.V2 && r.Repo == row.Repo && r.Index == row.Index && r.Subject != row.Subject && !r.Gone
			return nil
		})
	})
	if err != nil || shared {
		return shared, err
	}
	return x.isCopied(ctx, row)
}

// leadTo gives those tags of row that lead to its image at the upstream.
func (x *Indexer) leadTo(ctx context.Context, row *storage.PublishedRow) (tags []string, err error) {
	for _, tag := range append(without(row.Pushing, row.Tags), row.Tags...) {
		d, err := x.opt.Publish.Manifest(ctx, row.Repo, oci.Reference{Tag: tag})
		if err = ignoreNotFound(err); err != nil {
			return nil, err
		}
		if d == row.Index {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

func (x *Indexer) forgetPublished(ctx context.Context, row *storage.PublishedRow) error {
	return x.store.Update(ctx, func(tx storage.Tx) error {
		return tx.DeletePublished(row.Repo, row.Subject, row.Index)
	})
}

// whyGoes names what is taken away, and why.
func whyGoes(row *storage.PublishedRow) string {
	if row.Gone {
		return row.Index.String() + ", of an image that was deleted"
	}
	return "the replaced " + row.Index.String() + ", clients may take that one"
}
