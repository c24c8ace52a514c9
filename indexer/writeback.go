package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// considerPushes files what is due at upstreams now that the image d is through,
// or is known by one more name.
func (x *Indexer) considerPushes(ctx context.Context, d digest.Digest) error {
	if x.opt.Publish == nil || !x.rules.Load().pushing {
		return nil
	}
	var due []storage.TaskRow
	look := func(tx storage.Tx) error {
		due = due[:0]
		roots, err := rootsOf(tx, d)
		if err != nil {
			return err
		}
		for _, root := range roots {
			repos, err := publishersOf(tx, root.Digest)
			if err != nil {
				return err
			}
			for _, repo := range repos {
				p, err := x.planPush(tx, repo, root.Digest)
				if err != nil {
					return err
				}
				if t := p.task(x); p.isDue() && isNewTask(tx, t) {
					due = append(due, t)
				}
			}
		}
		return nil
	}
	if err := x.store.View(ctx, look); err != nil || len(due) == 0 {
		return err
	}
	return x.putTasks(ctx, due)
}

// publishersOf gives the repositories in which d is known: as an image, or with
// a converted form.
func publishersOf(tx storage.Tx, d digest.Digest) (repos []oci.Repo, err error) {
	img, err := tx.Image(d)
	if err = ignoreNotFound(err); err != nil {
		return nil, err
	}
	repos = slices.Clone(img.Repos)
	return repos, tx.Conversions(d, func(row storage.ConversionRow) error {
		if !slices.Contains(repos, row.Repo) {
			repos = append(repos, row.Repo)
		}
		return nil
	})
}

// isNewTask reports whether a push of just this is not filed yet. One that was
// given up, or cancelled, is for a person to begin anew.
func isNewTask(tx storage.Tx, t storage.TaskRow) bool {
	was, err := tx.Task(t.Kind, t.Repo, t.Reference)
	return err != nil || was.Digest != t.Digest
}

// pushPlan is what is to be brought to the upstream of a repository: of one
// digest, which may be an image, a source of a conversion, or both.
type pushPlan struct {
	repo     oci.Repo
	subject  digest.Digest
	priority int

	v1 *storage.ImageRow      // with an index that is to be listed there; nil: none is due
	v2 *storage.ConversionRow // nil: none is due

	targets []string               // tags that are to lead to v2
	rows    []storage.PublishedRow // of the subject in repo

	gone  bool      // the subject was deleted there: rows are to be taken away, and nothing else is due
	again bool      // and has come by since
	filed time.Time // when the task was that is being done
}

func (p *pushPlan) isDue() bool { return p.v1 != nil || p.v2 != nil || p.gone }

// task is p as it is filed. Its digest stands for what is to be pushed.
func (p *pushPlan) task(x *Indexer) storage.TaskRow {
	what := p.whatGone()
	if p.v1 != nil {
		what = append(what, p.v1.Index.String())
	}
	if p.v2 != nil {
		what = append(append(what, p.v2.Index.Digest.String()), p.targets...)
	}
	return storage.TaskRow{
		Kind: storage.TaskPush, Repo: p.repo, Reference: p.subject.String(), Priority: p.priority, Created: x.now().UTC(),
		Digest: digest.FromString(strings.Join(what, "\n")),
	}
}

// planPush looks at the rows. The rule of the repository alone decides: that the
// image is pushed from another one says nothing.
func (x *Indexer) planPush(tx storage.Tx, repo oci.Repo, subject digest.Digest) (p pushPlan, err error) {
	p = pushPlan{repo: repo, subject: subject}
	if !x.opt.Publish.Takes(repo) {
		return p, nil
	}
	p.rows, err = publishedIn(tx, repo, subject)
	if err == nil && slices.ContainsFunc(p.rows, isGone) {
		return p, p.planGone(tx)
	}
	if err == nil {
		err = x.planPushV1(tx, &p)
	}
	if err == nil {
		err = x.planPushV2(tx, &p)
	}
	return p, err
}

func (p *pushPlan) row(index digest.Digest) *storage.PublishedRow {
	for i := range p.rows {
		if p.rows[i].Index == index {
			return &p.rows[i]
		}
	}
	return nil
}

func (x *Indexer) planPushV1(tx storage.Tx, p *pushPlan) error {
	img, err := tx.Image(p.subject)
	if err != nil || img.Index == "" || !slices.Contains(img.Repos, p.repo) || img.WithdrawnFrom(p.repo) {
		return ignoreNotFound(err)
	}
	names := namesOf(&img)
	i := slices.IndexFunc(names, func(n named) bool { return n.repo == p.repo })
	rule := x.ruleFor(names[i])
	done := p.row(img.Index)
	if rule.pushesV1() && (done == nil || !isSettled(done) || len(p.replaced(img.Index)) > 0) {
		p.v1, p.priority = &img, rule.Priority
	}
	return nil
}

// isSettled reports whether nothing is to be done about a v1 index as such.
func isSettled(r *storage.PublishedRow) bool { return !r.Begun && !r.Unlisted && !r.Alike }

// replaced are v1 indexes that were brought there and that index is in place of.
func (p *pushPlan) replaced(index digest.Digest) (old []storage.PublishedRow) {
	for _, r := range p.rows {
		if !r.V2 && r.Made && !r.Unlisted && r.Index != index {
			old = append(old, r)
		}
	}
	return old
}

func (x *Indexer) planPushV2(tx storage.Tx, p *pushPlan) error {
	conv, err := tx.Conversion(p.subject, p.repo)
	if err != nil {
		return ignoreNotFound(err)
	}
	var tags []string
	err = tx.TagsOf(p.subject, func(repo oci.Repo, tag string) error {
		if repo == p.repo && Converts(tag) {
			tags = append(tags, tag)
		}
		return nil
	})
	rule := x.ruleFor(named{p.repo, tags})
	if err != nil || !rule.pushesV2() {
		return err
	}
	done := p.row(conv.Index.Digest)
	for _, tag := range tags {
		if t := tag + ConvertedSuffix; len(t) <= maxTag && !isReferrersTag(tag) {
			p.targets = append(p.targets, t)
			if done == nil || !slices.Contains(done.Tags, t) && !slices.Contains(done.Taken, t) {
				p.v2, p.priority = &conv, rule.Priority
			}
		}
	}
	return nil
}

// maxTag is how long a tag may be (distribution specification).
const maxTag = 128

// push does the task of considerPushes: by the rows of now.
func (x *Indexer) push(ctx context.Context, t *storage.TaskRow) error {
	p, err := x.viewPush(ctx, t)
	if err == nil && p.gone {
		var absent bool
		if absent, err = x.isAbsent(ctx, p.repo, p.subject); err == nil && absent {
			return x.takeAway(ctx, &p)
		}
		if err == nil {
			err = x.comeBack(ctx, &p)
		}
		if err == nil {
			p, err = x.viewPush(ctx, t)
		}
	}
	if err == nil && p.gone {
		err = errChanged // deleted once more
	}
	if err != nil || !p.isDue() {
		return err
	}
	if absent, err := x.isAbsent(ctx, p.repo, p.subject); err != nil {
		return lasting(fmt.Errorf("find %s at its upstream: %w", p.subject, err))
	} else if absent { // deleted there, on purpose as like as not: there is nothing to mend
		x.log.WarnContext(ctx, "index not pushed: the upstream has not its image", "repo", p.repo.String(), "digest", p.subject)
		return nil
	}
	var v1err, v2err error
	if p.v1 != nil {
		if err := x.pushV1(ctx, &p); err != nil {
			v1err = x.notPushed(lasting(fmt.Errorf("push SOCI index of %s: %w", p.subject, err)))
		}
	}
	if p.v2 != nil && ctx.Err() == nil { // whatever became of the other form
		if err := x.pushV2(ctx, &p); err != nil {
			v2err = x.notPushed(lasting(fmt.Errorf("push converted image of %s: %w", p.subject, err)))
		}
	}
	return bothForms(v1err, v2err)
}

// bothForms makes one error of two. What another attempt may mend is tried again,
// though the other is for good.
func bothForms(v1err, v2err error) error {
	if v1err == nil || v2err == nil {
		return errors.Join(v1err, v2err)
	}
	_, a := errors.AsType[permanent](v1err)
	_, b := errors.AsType[permanent](v2err)
	if a != b {
		return fmt.Errorf("%v; %v", v1err, v2err) //nolint:errorlint // it is not permanent
	}
	return fmt.Errorf("%w; %w", v1err, v2err)
}

func (x *Indexer) notPushed(err error) error {
	if !errors.Is(err, errChanged) { // else it goes on at once
		x.m.pushes.WithLabelValues(pushFailed).Inc()
	}
	return err
}

// lasting marks what another attempt would not mend.
func lasting(err error) error {
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, ErrRefused) {
		return permanent{err}
	}
	return err
}

// pushV1 puts a SOCI v1 index beside its image: its zTOCs first, then itself, and
// what it replaces goes. One that others have put there stays the only one.
func (x *Indexer) pushV1(ctx context.Context, p *pushPlan) error {
	was := p.row(p.v1.Index)
	if was != nil && isSettled(was) {
		return x.unlist(ctx, p, p.replaced(p.v1.Index)) // which is left of the last time
	}
	listed, err := x.opt.Publish.Referrers(ctx, p.repo, p.subject, oci.MediaTypeSOCIIndexV1)
	if err != nil {
		return err
	}
	if theirs := p.fromElsewhere(listed); theirs != "" {
		return x.leaveTo(ctx, p, theirs)
	}
	if err := x.takeOver(ctx, p, listed); err != nil {
		return err
	}
	replaces := p.replaced(p.v1.Index)
	row := storage.PublishedRow{Repo: p.repo, Subject: p.subject, Index: p.v1.Index}
	desc, body, m, err := x.readMade(ctx, p.v1.Index)
	if err == nil {
		err = x.pushBlobs(ctx, p.repo, m)
	}
	if err != nil {
		return err
	}
	if err := x.beginV1(ctx, p, &row, was); err != nil {
		return err
	}
	old := make([]digest.Digest, 0, len(replaces))
	for _, r := range replaces {
		old = append(old, r.Index)
	}
	if row.Fallback, err = x.opt.Publish.PushReferrer(ctx, p.repo, p.subject, desc, body, old); err != nil {
		return err
	}
	row.Begun = false
	if err := x.filePushed(ctx, row, pushDone); err != nil {
		return err
	}
	return x.unlist(ctx, p, replaces)
}

// beginV1 files that the index of row is being pushed, and whether the upstream had
// it before the first attempt: what an attempt puts there that does not end counts
// as made, so that it goes when it is replaced.
func (x *Indexer) beginV1(ctx context.Context, p *pushPlan, row, was *storage.PublishedRow) (err error) {
	row.Begun = true
	switch {
	case was != nil && was.Begun:
		row.Made = was.Made
		return nil // filed
	case was != nil && was.Unlisted && was.Made:
		row.Made = true
	default:
		row.Made, err = x.isAbsent(ctx, row.Repo, row.Index)
	}
	if err != nil {
		return err
	}
	return x.fileBegun(ctx, p, *row)
}

// fileBegun writes what is about to be pushed, unless the task was filed anew: its
// subject may have been deleted.
func (x *Indexer) fileBegun(ctx context.Context, p *pushPlan, row storage.PublishedRow) error {
	row.At = x.now().UTC()
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		if err := p.isCurrent(tx); err != nil {
			return err
		}
		return tx.PutPublished(row)
	})
	if err != nil {
		return fmt.Errorf("file what is to be pushed: %w", err)
	}
	return nil
}

// isAbsent reports whether the upstream has not a manifest.
func (x *Indexer) isAbsent(ctx context.Context, repo oci.Repo, d digest.Digest) (bool, error) {
	_, err := x.opt.Publish.Manifest(ctx, repo, oci.Reference{Digest: d})
	return errors.Is(err, storage.ErrNotFound), ignoreNotFound(err)
}

// readMade reads a manifest that was made here, and how a list of referrers has it.
func (x *Indexer) readMade(ctx context.Context, d digest.Digest) (desc v1.Descriptor, body []byte, m *oci.Manifest, err error) {
	var row storage.ManifestRow
	err = x.store.View(ctx, func(tx storage.Tx) (err error) {
		row, err = tx.Manifest(d)
		return err
	})
	if err == nil {
		body, err = x.readBlob(ctx, d)
	}
	if err != nil { // nothing that the upstream said
		return desc, nil, nil, fmt.Errorf("read what is to be pushed: %w", notHere(err))
	}
	m = &row.Manifest
	return v1.Descriptor{
		MediaType: m.MediaType, Digest: d, Size: int64(len(body)), ArtifactType: m.ArtifactType, Annotations: m.Annotations,
	}, body, m, nil
}

// notHere keeps what is missing here from being taken for what is missing there.
func notHere(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errors.New(err.Error())
	}
	return err
}
