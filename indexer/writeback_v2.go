package indexer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// pushV2 puts a converted image beside its source, at TAG-soci: what it is made
// of first. The blobs of the image are there already. A tag that leads elsewhere
// than to what was pushed from here is left.
func (x *Indexer) pushV2(ctx context.Context, p *pushPlan) error {
	row := storage.PublishedRow{Repo: p.repo, Subject: p.subject, Index: p.v2.Index.Digest, V2: true}
	if old := p.row(row.Index); old != nil {
		row.Tags, row.Taken, row.Pushing, row.Made = old.Tags, old.Taken, old.Pushing, old.Made
	}
	var free []string
	for _, tag := range p.targets {
		if slices.Contains(row.Tags, tag) || slices.Contains(row.Taken, tag) {
			continue
		}
		ok, err := x.isFree(ctx, p, tag)
		if err != nil {
			return err
		}
		if ok {
			free = append(free, tag)
		} else {
			row.Taken = append(row.Taken, tag)
			x.log.InfoContext(ctx, "converted image not pushed: the tag leads elsewhere", "repo", p.repo.String(), "tag", tag)
		}
	}
	result := pushLeft
	if len(free) > 0 {
		result = pushDone
		if err := x.pushConverted(ctx, p, &row, free); err != nil {
			return err
		}
	}
	row.Pushing = without(row.Pushing, p.targets)
	return x.filePushed(ctx, row, result)
}

func without(tags, gone []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return slices.Contains(gone, tag) })
}

// isFree reports whether tag is not at the upstream, or leads to what was made here,
// whichever of several proxies over one upstream had it lead there.
func (x *Indexer) isFree(ctx context.Context, p *pushPlan, tag string) (bool, error) {
	d, err := x.opt.Publish.Manifest(ctx, p.repo, oci.Reference{Tag: tag})
	if errors.Is(err, storage.ErrNotFound) {
		return true, nil
	}
	if err != nil || d == p.v2.Index.Digest {
		return err == nil, err
	}
	ours := false
	err = x.store.View(ctx, func(tx storage.Tx) error {
		return tx.AllPublished(func(row storage.PublishedRow) error {
			ours = ours || row.V2 && row.Repo == p.repo && row.Index == d
			return nil
		})
	})
	return ours, err
}

func (x *Indexer) pushConverted(ctx context.Context, p *pushPlan, row *storage.PublishedRow, tags []string) error {
	for _, made := range p.v2.Made {
		desc, body, m, err := x.readMade(ctx, made.Digest)
		if err != nil {
			return err
		}
		if made.Digest == p.v2.Index.Digest {
			continue // last
		}
		if m.ArtifactType == oci.MediaTypeSOCIIndexV2 {
			if err := x.pushBlobs(ctx, p.repo, m); err != nil {
				return err
			}
		}
		absent, err := x.isAbsent(ctx, p.repo, made.Digest)
		if err == nil && absent {
			err = x.opt.Publish.PushManifest(ctx, p.repo, oci.Reference{Digest: made.Digest}, desc.MediaType, body)
		}
		if err != nil {
			return err
		}
	}
	desc, body, _, err := x.readMade(ctx, p.v2.Index.Digest)
	if err != nil {
		return err
	}
	if err := x.beginV2(ctx, p, row, tags); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := x.opt.Publish.PushManifest(ctx, p.repo, oci.Reference{Tag: tag}, desc.MediaType, body); err != nil {
			return err
		}
		row.Tags = append(row.Tags, tag)
	}
	return nil
}

// beginV2 files the tags that are about to lead to the converted image of row: should
// the push not end, what they lead to is known to be from here.
func (x *Indexer) beginV2(ctx context.Context, p *pushPlan, row *storage.PublishedRow, tags []string) (err error) {
	if p.row(row.Index) == nil {
		if row.Made, err = x.isAbsent(ctx, p.repo, row.Index); err != nil {
			return err
		}
	}
	row.Pushing = append(without(row.Pushing, tags), tags...)
	return x.fileBegun(ctx, p, *row)
}

// pushBlobs sends the zTOCs, and whatever else a SOCI index names, and its config.
func (x *Indexer) pushBlobs(ctx context.Context, repo oci.Repo, m *oci.Manifest) error {
	for _, d := range append([]v1.Descriptor{*m.Config}, m.Layers...) {
		open := func() (io.ReadCloser, error) {
			b, err := x.store.Open(ctx, d.Digest)
			if err != nil {
				return nil, notHere(err)
			}
			return struct {
				io.Reader
				io.Closer
			}{io.NewSectionReader(b, 0, b.Size()), b}, nil
		}
		if err := x.opt.Publish.PushBlob(ctx, repo, d, open); err != nil {
			return fmt.Errorf("push %s: %w", d.Digest, err)
		}
	}
	return nil
}

// filePushed writes what was pushed, or why not, and tells of it. Tags that lead
// to it now lead to nothing else that was pushed before.
func (x *Indexer) filePushed(ctx context.Context, row storage.PublishedRow, result string) error {
	row.At = x.now().UTC()
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		was, err := tx.Published(row.Repo, row.Subject, row.Index)
		if row.Gone = was.Gone; ignoreNotFound(err) != nil { // deleted meanwhile: there is a task for that
			return err
		}
		if err := dropTags(tx, row); err != nil {
			return err
		}
		if err := tx.PutPublished(row); err != nil || result != pushDone {
			return err
		}
		return x.tellPushed(tx, row)
	})
	if err != nil {
		return fmt.Errorf("file what was pushed: %w", err)
	}
	x.m.pushes.WithLabelValues(result).Inc()
	if result == pushDone {
		x.log.InfoContext(ctx, "index pushed", "repo", row.Repo.String(), "digest", row.Subject, "index", row.Index, "tags", row.Tags, "fallback", row.Fallback)
	}
	return nil
}

func dropTags(tx storage.Tx, row storage.PublishedRow) error {
	var changed []storage.PublishedRow
	err := tx.AllPublished(func(r storage.PublishedRow) error {
		if !r.V2 || r.Repo != row.Repo || r.Subject == row.Subject && r.Index == row.Index {
			return nil
		}
		n := len(r.Tags) + len(r.Pushing)
		r.Tags, r.Pushing = without(r.Tags, row.Tags), without(r.Pushing, row.Tags)
		if len(r.Tags)+len(r.Pushing) < n {
			changed = append(changed, r)
		}
		return nil
	})
	for _, r := range changed {
		err = errors.Join(err, tx.PutPublished(r))
	}
	return err
}

// tellPushed files that something of an image is at its upstream.
func (x *Indexer) tellPushed(tx storage.Tx, row storage.PublishedRow) error {
	describe := func(d digest.Digest) (v1.Descriptor, error) {
		m, err := tx.Manifest(d)
		return v1.Descriptor{MediaType: m.Manifest.MediaType, ArtifactType: m.Manifest.ArtifactType, Digest: d, Size: m.Size}, err
	}
	target, err := describe(row.Subject)
	if err != nil {
		return ignoreNotFound(err) // purged meanwhile
	}
	index, err := describe(row.Index)
	if err != nil {
		return ignoreNotFound(err)
	}
	tag := ""
	if len(row.Tags) > 0 {
		tag = row.Tags[len(row.Tags)-1]
	}
	return x.opt.Events.File(tx, oci.Event{
		Kind: oci.EventPublished, Repo: row.Repo, Tag: tag, Target: target, References: []v1.Descriptor{index},
	})
}
