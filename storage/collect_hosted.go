package storage

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// upstream goes through the repositories of a hosted namespace.
func (g *collection) upstream(ctx context.Context, up string) error {
	for last := ""; ; {
		var repos []oci.Repo
		err := g.s.View(ctx, sure(func(tx Tx) error {
			repos = repos[:0]
			_, err := found(tx.ContentRepos(up, last, func(repo oci.Repo) error {
				if repos = append(repos, repo); len(repos) == collectBatch {
					return errOne
				}
				return nil
			}))
			return err
		}))
		if err != nil || len(repos) == 0 {
			return err
		}
		for _, repo := range repos {
			if err := g.repository(ctx, repo); err != nil {
				return err
			}
		}
		last = repos[len(repos)-1].Name
	}
}

func (g *collection) repository(ctx context.Context, repo oci.Repo) error {
	rule := &Retention{}
	for i := range g.c.o.Rules {
		if oci.MatchAny(g.c.o.Rules[i].Repositories, repo) {
			rule = &g.c.o.Rules[i]
			break
		}
	}
	if err := g.tags(ctx, repo, rule); err != nil {
		return err
	}
	for range collectRounds {
		n, err := g.contents(ctx, repo, rule)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// tags deletes those that the rule does not keep.
func (g *collection) tags(ctx context.Context, repo oci.Repo, rule *Retention) error {
	if rule.KeepLast == 0 && rule.KeepFor == 0 && len(rule.KeepTags) == 0 {
		return nil
	}
	var rows []TagRow // all of them: which is the last one shows in the end
	for last, more := "", true; more; {
		n, from := len(rows), last
		err := g.s.View(ctx, sure(func(tx Tx) (err error) {
			rows, last = rows[:n], from
			seen := 0
			more, err = found(tx.Tags(repo, last, func(row TagRow) error {
				last = row.Tag
				follows, err := g.follows(tx, row)
				if err == nil && !follows { // the others go with what they are about, see content
					rows = append(rows, row)
				}
				if seen++; seen == collectBatch && err == nil {
					err = errOne
				}
				return errors.Join(err, ctx.Err())
			}))
			return err
		}))
		if err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(g.overdue(rows, rule), collectWrites) {
		if err := g.dropTags(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// overdue gives the tags that go.
func (g *collection) overdue(rows []TagRow, rule *Retention) (old []TagRow) {
	slices.SortFunc(rows, func(a, b TagRow) int { return cmp.Or(b.Checked.Compare(a.Checked), cmp.Compare(a.Tag, b.Tag)) })
	last := 0 // those that stay for no other reason count
	for _, row := range rows {
		switch {
		case slices.ContainsFunc(rule.KeepTags, func(p string) bool { ok, err := path.Match(p, row.Tag); return ok && err == nil }),
			g.c.o.Immutable != nil && g.c.o.Immutable(row.Repo, row.Tag):
			continue
		}
		last++
		switch {
		case last <= rule.KeepLast,
			rule.KeepFor > 0 && g.now.Sub(row.Checked) <= rule.KeepFor,
			g.now.Sub(row.Checked) <= g.grace:
		default:
			old = append(old, row)
		}
	}
	return old
}

// dropTags deletes tags that were not pushed again meanwhile.
func (g *collection) dropTags(ctx context.Context, rows []TagRow) error {
	gone := rows
	if g.dry {
		for _, row := range rows {
			g.deadTags[TagRow{Repo: row.Repo, Tag: row.Tag}] = true
		}
	} else {
		err := g.s.Update(ctx, sure(func(tx Tx) error {
			gone = nil
			for _, row := range rows {
				now, err := tx.Tag(row.Repo, row.Tag)
				if errors.Is(err, ErrNotFound) || err == nil && (now.Digest != row.Digest || !now.Checked.Equal(row.Checked)) {
					continue
				}
				if err != nil {
					return err
				}
				err = tx.DeleteTag(row.Repo, row.Tag)
				if err == nil {
					target := g.s.target(tx, ContentRow{Digest: row.Digest, Manifest: true})
					err = g.s.tellDropped(tx, Dropped{Repo: row.Repo, Tag: row.Tag, Target: target})
				}
				if err != nil {
					return err
				}
				gone = append(gone, row)
			}
			return nil
		}))
		if err != nil {
			return err
		}
	}
	for _, row := range gone {
		g.tell(Collected{
			What: CollectedTag, Repo: row.Repo.String(), Tag: row.Tag, Digest: row.Digest,
			Reason: "pushed " + row.Checked.UTC().Format(time.RFC3339) + ", which no rule keeps",
		})
	}
	return nil
}

// doomed is content that goes, and why.
type doomed struct {
	row  ContentRow
	why  string
	tags []TagRow // that go with it
}

// contents goes once through what a repository has, and gives how much went.
func (g *collection) contents(ctx context.Context, repo oci.Repo, rule *Retention) (n int, err error) {
	for last := digest.Digest(""); ; {
		var list []doomed
		rows := 0
		err := g.s.View(ctx, sure(func(tx Tx) error {
			list, rows = nil, 0
			_, err := found(tx.ContentsAfter(repo, last, func(row ContentRow) error {
				if rows++; rows > collectBatch {
					return errOne
				}
				last = row.Digest
				if g.deadContent[right{repo, row.Digest}] {
					return nil
				}
				x, err := g.condemn(tx, row, rule)
				if x.why != "" {
					list = append(list, x)
				}
				return errors.Join(err, ctx.Err())
			}))
			return err
		}))
		if err != nil {
			return n, err
		}
		for batch := range slices.Chunk(list, collectWrites) {
			gone, err := g.dropContent(ctx, batch, rule)
			if err != nil {
				return n, err
			}
			n += gone
		}
		if rows <= collectBatch {
			return n, nil
		}
	}
}

// condemn judges what a repository has, and what goes with it.
func (g *collection) condemn(tx Tx, row ContentRow, rule *Retention) (x doomed, err error) {
	x.row = row
	if x.why, err = g.content(tx, row, rule); err != nil || x.why == "" || !row.Manifest {
		return x, err
	}
	err = tx.TagsOf(row.Digest, func(repo oci.Repo, tag string) error {
		if repo == row.Repo && !g.deadTags[TagRow{Repo: repo, Tag: tag}] {
			x.tags = append(x.tags, TagRow{Repo: repo, Tag: tag, Digest: row.Digest})
		}
		return nil
	})
	return x, err
}

// dropContent has repositories no longer have what is garbage still.
func (g *collection) dropContent(ctx context.Context, list []doomed, rule *Retention) (n int, err error) {
	gone := list
	if g.dry {
		for _, x := range list {
			g.deadContent[right{x.row.Repo, x.row.Digest}] = true
			for _, tag := range x.tags {
				g.deadTags[TagRow{Repo: tag.Repo, Tag: tag.Tag}] = true
			}
		}
	} else {
		err := g.s.Update(ctx, sure(func(tx Tx) error {
			gone = nil
			for _, x := range list {
				row, err := tx.Content(x.row.Repo, x.row.Digest)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				x, err := g.condemn(tx, row, rule)
				if err != nil {
					return err
				}
				if x.why == "" {
					continue // somebody needs it now
				}
				if err := errors.Join(deleteTags(tx, x.tags), g.s.dropContent(tx, row)); err != nil {
					return err
				}
				gone = append(gone, x)
			}
			return nil
		}))
		if err != nil {
			return 0, err
		}
	}
	for _, x := range gone {
		what := CollectedBlob
		if x.row.Manifest {
			what = CollectedManifest
		}
		for _, tag := range x.tags {
			g.tell(Collected{What: CollectedTag, Repo: tag.Repo.String(), Tag: tag.Tag, Digest: tag.Digest, Reason: x.why})
		}
		g.letGo[x.row.Digest] = true
		g.tell(Collected{What: what, Repo: x.row.Repo.String(), Digest: x.row.Digest, Bytes: x.row.Size, Reason: x.why})
	}
	return len(gone), nil
}

// DropContent has a hosted repository no longer have something, at now. A
// manifest is no longer listed by its subject, and those that it is the subject
// of are orphans: they are collected. Tags are the caller's affair.
func DropContent(tx Tx, row ContentRow, now time.Time) error {
	if row.Manifest {
		m, err := tx.Manifest(row.Digest)
		if err == nil && m.Manifest.Subject != nil {
			err = tx.DeleteReferrerIn(row.Repo, m.Manifest.Subject.Digest, row.Digest)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		err = errors.Join(orphanReferrers(tx, row, now), orphanTags(tx, row.Repo, row.Digest, now), LeaveImage(tx, row.Repo, row.Digest))
		if err != nil {
			return err
		}
	}
	return tx.DeleteContent(row.Repo, row.Digest)
}

func orphanReferrers(tx Tx, row ContentRow, now time.Time) error {
	var refs []ReferrerRow
	err := tx.Referrers(row.Digest, func(ref ReferrerRow) error {
		if ref.Repo == row.Repo {
			refs = append(refs, ref)
		}
		return nil
	})
	for _, ref := range refs {
		if err == nil {
			ref.Orphaned = now.UTC().Round(0)
			err = tx.PutReferrer(ref)
		}
	}
	return err
}

// LeaveImage has the indexer no longer know d as an image of repo.
func LeaveImage(tx Tx, repo oci.Repo, d digest.Digest) error {
	img, err := tx.Image(d)
	if errors.Is(err, ErrNotFound) || err == nil && !slices.Contains(img.Repos, repo) {
		return nil
	}
	if err != nil {
		return err
	}
	img.Repos = slices.DeleteFunc(slices.Clone(img.Repos), func(r oci.Repo) bool { return r == repo })
	img.Tags = slices.DeleteFunc(slices.Clone(img.Tags), func(ref string) bool { return strings.HasPrefix(ref, repo.String()+":") })
	return tx.PutImage(img)
}
