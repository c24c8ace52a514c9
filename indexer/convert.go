package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

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
	if err := x.considerPushes(ctx, d); err != nil {
		return err
	}
	if !x.rules.Load().converting || x.opt.Fetch == nil {
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
		if err := x.fetchUnpulled(ctx, repo, d.Digest); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("fetch manifest %s: %w", d.Digest, err)
		}
	}
	return nil
}

// fetchUnpulled has a manifest stored of which, if it is new, nobody is to think
// that it was pulled.
func (x *Indexer) fetchUnpulled(ctx context.Context, repo oci.Repo, d digest.Digest) error {
	x.mu.Lock()
	x.unpulled[d]++
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.unpulled[d]--; x.unpulled[d] == 0 {
			delete(x.unpulled, d)
		}
	}()
	return x.opt.Fetch.FetchManifest(ctx, repo, d)
}

func (x *Indexer) isUnpulled(d digest.Digest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.unpulled[d] > 0
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
