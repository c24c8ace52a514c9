package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// maxEntries bounds the manifests of an image index that is converted: all
	// of them are fetched.
	maxEntries = 500
	// maxConfig bounds an image's config, which is read for its platform.
	maxConfig = 4 << 20
)

var errTooMuch = errors.New("it names more than is fetched for a conversion")

// considerConversions files the conversions that are due now that the image d
// is through, or is known by one more name.
func (x *Indexer) considerConversions(ctx context.Context, d digest.Digest) error {
	if !x.converting || x.opt.Fetch == nil {
		return nil
	}
	var due []storage.TaskRow
	err := x.store.View(ctx, func(tx storage.Tx) error {
		due = due[:0]
		roots, err := rootsOf(tx, d)
		if err != nil {
			return err
		}
		for _, root := range roots {
			repos, err := tagged(tx, root.Digest)
			if err != nil {
				return err
			}
			for _, repo := range repos {
				p, err := x.planConversion(tx, repo, root.Digest)
				if err != nil {
					return err
				}
				if p.due || len(p.waiting) > 0 {
					due = append(due, x.convertTask(repo, root.Digest, p.rule))
				}
			}
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return err
	}
	return x.putTasks(ctx, due)
}

// tagged gives the repositories with a tag that leads to d.
func tagged(tx storage.Tx, d digest.Digest) (repos []oci.Repo, err error) {
	err = tx.TagsOf(d, func(repo oci.Repo, _ string) error {
		if !slices.Contains(repos, repo) {
			repos = append(repos, repo)
		}
		return nil
	})
	return repos, err
}

func (x *Indexer) convertTask(repo oci.Repo, source digest.Digest, rule *Rule) storage.TaskRow {
	t := storage.TaskRow{Kind: storage.TaskConvert, Repo: repo, Reference: source.String(), Created: x.now().UTC()}
	if rule != nil {
		t.Priority = rule.Priority
	}
	return t
}

// convert makes the SOCI v2 image of a source, or withdraws it. All manifests
// are fetched first, so that the result does not depend on what was here.
func (x *Indexer) convert(ctx context.Context, t *storage.TaskRow) error {
	source := digest.Digest(t.Reference)
	p, err := x.viewPlan(ctx, t.Repo, source)
	switch {
	case err != nil:
		return err
	case p.rule == nil && p.due:
		return x.withdraw(ctx, t.Repo, source)
	case p.rule == nil:
		return nil
	}
	if err := x.fetchEntries(ctx, t.Repo, &p.source); err != nil {
		return err
	}
	if p, err = x.viewPlan(ctx, t.Repo, source); err != nil {
		return err
	}
	if len(p.waiting) > 0 {
		return x.fetchLayers(ctx, p.waiting)
	}
	if !p.due || p.rule == nil {
		return nil
	}
	src, err := x.readSource(ctx, t.Repo, &p.source)
	if err != nil {
		return err
	}
	if !p.source.Manifest.IsIndex() {
		p.indexes[0].Platform = oci.NormalPlatform(src.Platform)
	}
	out, err := Convert(src, p.indexes)
	if err != nil {
		return err
	}
	return x.keepConversion(ctx, t.Repo, &p, out)
}

func (x *Indexer) viewPlan(ctx context.Context, repo oci.Repo, source digest.Digest) (p conversionPlan, err error) {
	err = x.store.View(ctx, func(tx storage.Tx) (err error) {
		p, err = x.planConversion(tx, repo, source)
		return err
	})
	return p, err
}

// fetchEntries has all manifests that an index names stored, but for those that
// the upstream has not.
func (x *Indexer) fetchEntries(ctx context.Context, repo oci.Repo, source *storage.ManifestRow) error {
	if len(source.Manifest.Manifests) > maxEntries {
		return permanent{fmt.Errorf("%s: %w", source.Digest, errTooMuch)}
	}
	for i := range source.Manifest.Manifests {
		d := &source.Manifest.Manifests[i]
		if !isImageManifest(d.MediaType) {
			continue
		}
		known := false
		err := x.store.View(ctx, func(tx storage.Tx) error {
			_, err := tx.Image(d.Digest)
			known = err == nil
			return ignoreNotFound(err)
		})
		if err == nil {
			err = x.opt.Fetch.FetchManifest(ctx, repo, d.Digest)
		}
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err == nil && !known {
			err = x.markFetched(ctx, d.Digest)
		}
		if err != nil {
			return fmt.Errorf("fetch manifest %s: %w", d.Digest, err)
		}
	}
	return nil
}

// markFetched says of an image that nobody has pulled it yet.
func (x *Indexer) markFetched(ctx context.Context, d digest.Digest) error {
	return x.store.Update(ctx, func(tx storage.Tx) error {
		img, err := tx.Image(d)
		if err != nil {
			return ignoreNotFound(err)
		}
		img.Fetched = true
		return tx.PutImage(img)
	})
}

// readSource reads the bytes of an image's manifests, and of one manifest's
// config for its platform.
func (x *Indexer) readSource(ctx context.Context, repo oci.Repo, row *storage.ManifestRow) (Source, error) {
	m := &row.Manifest
	src := Source{
		Descriptor: v1.Descriptor{MediaType: m.MediaType, Digest: row.Digest, Size: row.Size},
		Manifests:  map[digest.Digest][]byte{},
	}
	var err error
	if src.Body, err = x.readBlob(ctx, row.Digest); err != nil {
		return src, err
	}
	for i := range m.Manifests {
		d := m.Manifests[i].Digest
		body, err := x.readBlob(ctx, d)
		if errors.Is(err, storage.ErrNotFound) {
			continue // the upstream has it not
		}
		if err != nil {
			return src, err
		}
		src.Manifests[d] = body
	}
	if m.IsIndex() {
		return src, nil
	}
	src.Manifests[row.Digest] = src.Body
	if m.Config == nil || m.Config.Size > maxConfig {
		return src, permanent{fmt.Errorf("%s has no config that tells its platform", row.Digest)}
	}
	if err := x.opt.Fetch.FetchBlob(ctx, repo, *m.Config); err != nil {
		return src, fmt.Errorf("fetch config %s: %w", m.Config.Digest, err)
	}
	body, err := x.readBlob(ctx, m.Config.Digest)
	if err == nil {
		if jerr := json.Unmarshal(body, &src.Platform); jerr != nil {
			err = permanent{fmt.Errorf("read config %s: %w", m.Config.Digest, jerr)}
		}
	}
	return src, err
}

func (x *Indexer) readBlob(ctx context.Context, d digest.Digest) ([]byte, error) {
	b, err := x.store.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Size() > oci.MaxManifestBytes {
		return nil, permanent{fmt.Errorf("%s has %d bytes: %w", d, b.Size(), errTooMuch)}
	}
	body := make([]byte, b.Size())
	if _, err := b.ReadAt(body, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", d, err)
	}
	return body, nil
}

// keepConversion stores what was made, its index last: with it come the rows by
// which it is found.
func (x *Indexer) keepConversion(ctx context.Context, repo oci.Repo, p *conversionPlan, out Converted) error {
	now := x.now().UTC()
	if err := x.putEmptyConfig(ctx, now); err != nil {
		return err
	}
	row := storage.ConversionRow{
		Repo: repo, Platforms: p.platforms, Settings: p.settings, Created: now, Index: out.Index().Descriptor,
		Source: v1.Descriptor{MediaType: p.source.Manifest.MediaType, Digest: p.source.Digest, Size: p.source.Size},
	}
	for _, m := range out {
		row.Made = append(row.Made, storage.MadeBlob{Digest: m.Descriptor.Digest, Of: m.Of})
	}
	for i, m := range out {
		parsed, err := oci.ParseManifest(m.Body, m.Descriptor.MediaType)
		if err != nil {
			return permanent{err}
		}
		blob := storage.BlobRow{
			Digest: m.Descriptor.Digest, Size: m.Descriptor.Size, Kind: storage.KindIndex, Of: m.Of, Created: now, Accessed: now,
		}
		err = x.store.Put(ctx, blob, m.Body, func(tx storage.Tx) error {
			err := tx.PutManifest(storage.ManifestRow{Digest: m.Descriptor.Digest, Size: m.Descriptor.Size, Manifest: *parsed})
			if err != nil || i < len(out)-1 {
				return err
			}
			return x.fileConversion(tx, repo, p, row)
		})
		if err != nil {
			return fmt.Errorf("store converted manifest %s: %w", m.Descriptor.Digest, err)
		}
	}
	x.m.converted.Inc()
	x.log.InfoContext(ctx, "image converted", "repo", repo.String(), "digest", p.source.Digest, "index", row.Index.Digest,
		"platforms", len(row.Platforms), "tags", len(p.tags))
	return nil
}

// fileConversion writes the rows of a conversion, unless what it was made by
// has changed.
func (x *Indexer) fileConversion(tx storage.Tx, repo oci.Repo, p *conversionPlan, row storage.ConversionRow) error {
	now, err := x.planConversion(tx, repo, p.source.Digest)
	if err != nil {
		return err
	}
	if now.settings != p.settings {
		return errChanged
	}
	for _, m := range row.Made {
		if err := errors.Join(shareMade(tx, repo, m), tx.DeleteRetired(m.Digest)); err != nil {
			return err
		}
	}
	for _, tag := range now.tags {
		err := tx.PutConvertedTag(storage.ConvertedTagRow{Repo: repo, Tag: tag, Source: row.Source.Digest, Index: row.Index.Digest, Set: row.Created})
		if err != nil {
			return err
		}
	}
	if now.old != nil {
		if err := retireMade(tx, now.old.Made, row.Made, row.Created); err != nil {
			return err
		}
	}
	return tx.PutConversion(row)
}

// shareMade gives repo the right to a manifest whose row says that it was made
// of another one: two images with the same layers have the same SOCI index.
func shareMade(tx storage.Tx, repo oci.Repo, m storage.MadeBlob) error {
	row, err := tx.Blob(m.Digest)
	if errors.Is(err, storage.ErrNotFound) || err == nil && row.Of == m.Of {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.PutRight(repo, m.Digest)
}

// retireMade has what is made no more be readable for a while yet.
func retireMade(tx storage.Tx, old, kept []storage.MadeBlob, now time.Time) error {
	for _, m := range old {
		if slices.ContainsFunc(kept, func(k storage.MadeBlob) bool { return k.Digest == m.Digest }) {
			continue
		}
		if err := tx.PutRetired(storage.RetiredRow{Digest: m.Digest, Since: now}); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes a conversion that no rule wants any more from where it was
// served.
func (x *Indexer) withdraw(ctx context.Context, repo oci.Repo, source digest.Digest) error {
	now := x.now().UTC()
	done := false
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		done = false
		p, err := x.planConversion(tx, repo, source)
		if err != nil || p.old == nil || p.rule != nil || !p.due {
			return err
		}
		done = true
		return dropConversion(tx, p.old, now)
	})
	if err == nil && done {
		x.log.InfoContext(ctx, "converted image withdrawn", "repo", repo.String(), "digest", source)
	}
	return err
}

func dropConversion(tx storage.Tx, row *storage.ConversionRow, now time.Time) error {
	var tags []string
	err := tx.ConvertedTags(func(t storage.ConvertedTagRow) error {
		if t.Repo == row.Repo && t.Source == row.Source.Digest {
			tags = append(tags, t.Tag)
		}
		return nil
	})
	for _, tag := range tags {
		err = errors.Join(err, tx.DeleteConvertedTag(row.Repo, tag))
	}
	return errors.Join(err, retireMade(tx, row.Made, nil, now), tx.DeleteConversion(row.Source.Digest, row.Repo))
}

// fetchLayers queues the layers that are wanted of images that a rule names by
// platform, to be fetched where nobody has pulled them.
func (x *Indexer) fetchLayers(ctx context.Context, manifests []digest.Digest) error {
	n := 0
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		n = 0
		for _, d := range manifests {
			img, err := tx.Image(d)
			if errors.Is(err, storage.ErrNotFound) {
				continue // no image after all, or not to be had
			}
			if err != nil {
				return err
			}
			more, err := x.queueFetches(tx, &img)
			n += more
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && n > 0 {
		x.m.queued.Add(float64(n))
		wake(x.toLease)
	}
	return err
}

// queueFetches queues the wanted layers of an image that have no job, and says
// of those that have one that they may be fetched. It gives how many are new.
func (x *Indexer) queueFetches(tx storage.Tx, img *storage.ImageRow) (n int, err error) {
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.SpanSize == 0 {
			continue
		}
		row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
		if err != nil || row.State != storage.LayerWanted {
			if err = ignoreNotFound(err); err != nil {
				return n, err
			}
			continue
		}
		job, err := tx.Job(l.Descriptor.Digest, l.SpanSize)
		if errors.Is(err, storage.ErrNotFound) {
			var found bool
			if job, found, err = x.jobFor(tx, key{l.Descriptor.Digest, l.SpanSize}); err == nil && found {
				n++
			}
		}
		if err != nil {
			return n, err
		}
		if job.Layer.Digest == "" {
			continue
		}
		job.Fetch, job.Failed = true, false
		if err := tx.PutJob(job); err != nil {
			return n, err
		}
	}
	return n, nil
}
