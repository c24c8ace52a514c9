package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Purged is what became of an image.
type Purged struct {
	Manifests []digest.Digest // that went: the image's own, root first
	Blobs     int             // that went in all, spans and what was made here included
	Freed     int64           // bytes of all of them
	Shared    int             // blobs and manifests that stayed, since something else here names them
	Blocked   []digest.Digest // that are kept out from now on
}

// PurgeImage removes the manifest or index root and all that is below it: bytes
// and partials, spans, span tables, what was made here of it, rights, and tags
// that lead to it, in every repository. What another manifest here names, and
// another tag or a pin, stays. With block, root and its manifests are kept out
// from then on; its Digest is set for each.
//
// ErrNotFound when no such manifest is known, ErrPinned when a pin holds it. It
// is not atomic: when it fails half-way, or a crash does, a repeat does the rest.
func (s *Store) PurgeImage(ctx context.Context, root digest.Digest, block *BlockRow) (Purged, error) {
	if err := s.count(ctx); err != nil {
		return Purged{}, err
	}
	p := &imagePurge{root: root}
	err := s.meta.View(ctx, func(tx Tx) error {
		*p = imagePurge{root: root}
		return p.plan(ctx, tx)
	})
	if err != nil {
		return Purged{}, fmt.Errorf("purge image %s: %w", root, err)
	}
	out := Purged{Manifests: p.own, Shared: p.shared}
	if block != nil {
		out.Blocked = p.listed
	}
	// Rows first, and with them what is never evicted: should this end half-way,
	// no row is left that names what is gone, and no bytes for ever.
	rows := func(tx Tx) error { return p.write(tx, s.blocks(block, out.Blocked)) }
	for batch := range slices.Chunk(append(p.made, p.blobs...), maxBatch) {
		freed, n, err := s.purgeBatch(ctx, batch, rows)
		rows = nil
		out.Freed += freed
		out.Blobs += n
		if err != nil {
			return out, fmt.Errorf("purge image %s: %w", root, err)
		}
	}
	return out, nil
}

func (s *Store) blocks(block *BlockRow, ds []digest.Digest) (rows []BlockRow) {
	for _, d := range ds {
		row := *block
		row.Digest = d
		if row.Created.IsZero() {
			row.Created = s.now().UTC().Round(0)
		}
		rows = append(rows, row)
	}
	return rows
}

// imagePurge is what goes with an image.
type imagePurge struct {
	root   digest.Digest
	own    []digest.Digest // manifests
	listed []digest.Digest // own, and those of an index that never came by
	made   []digest.Digest // what is never evicted: own, SOCI indexes, zTOCs
	blobs  []digest.Digest // the rest
	shared int

	below     map[digest.Digest][]digest.Digest // what is below root -> the manifests that name it
	tags      []TagRow
	images    []digest.Digest
	referrers []ReferrerRow
	converted []ConversionRow
	layers    []LayerRow
	imported  []digest.Digest // layers
	rights    []right
}

type right struct {
	repo oci.Repo
	d    digest.Digest
}

// plan finds out what goes. It goes through all manifests and tags.
func (p *imagePurge) plan(ctx context.Context, tx Tx) error {
	if _, err := tx.Manifest(p.root); err != nil {
		return err
	}
	if err := NotPinned(tx, p.root); err != nil {
		return err
	}
	all, err := Below(tx, p.root)
	if err != nil {
		return err
	}
	p.below = make(map[digest.Digest][]digest.Digest, len(all))
	for _, d := range all {
		p.below[d] = nil
	}
	err = tx.Manifests(func(row ManifestRow) error {
		if made, err := tx.Blob(row.Digest); err == nil && made.Kind == KindIndex {
			return nil // of an image: what it names is that image's
		}
		for _, d := range Named(&row.Manifest) {
			if by, ok := p.below[d]; ok {
				p.below[d] = append(by, row.Digest)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	stays, err := p.stays(tx, all)
	if err != nil {
		return err
	}
	for _, d := range all {
		if stays[d] {
			p.shared++
			continue
		}
		if err := p.add(tx, d); err != nil {
			return err
		}
	}
	p.addConverted()
	return p.addRights(tx, stays)
}

// addConverted plans for what was made of the manifests that go.
func (p *imagePurge) addConverted() {
	for i := range p.converted {
		for _, m := range p.converted[i].Made {
			if slices.Contains(p.own, m.Of) && !slices.Contains(p.made, m.Digest) {
				p.made = append(p.made, m.Digest)
			}
		}
	}
}

// stays finds what of all, which are in the order of their levels, is named by
// something that stays.
func (p *imagePurge) stays(tx Tx, all []digest.Digest) (map[digest.Digest]bool, error) {
	tagged := map[digest.Digest]bool{}
	err := eachTag(tx, func(row TagRow) error {
		if _, ok := p.below[row.Digest]; ok {
			tagged[row.Digest] = true
		}
		if row.Digest == p.root {
			p.tags = append(p.tags, row)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	stays := map[digest.Digest]bool{}
	for changed := true; changed; { // as many rounds as there are levels
		changed = false
		for _, d := range all {
			if d == p.root || stays[d] {
				continue
			}
			pinned, err := tx.Pinned(d)
			if err != nil {
				return nil, err
			}
			if pinned || tagged[d] || slices.ContainsFunc(p.below[d], func(by digest.Digest) bool {
				_, inside := p.below[by]
				return !inside || stays[by]
			}) {
				stays[d], changed = true, true
			}
		}
	}
	return stays, nil
}

// add plans for d to go, and for all that was made of it.
func (p *imagePurge) add(tx Tx, d digest.Digest) error {
	row, err := tx.Manifest(d)
	switch {
	case err == nil:
		p.own, p.listed, p.made = append(p.own, d), append(p.listed, d), append(p.made, d)
		return p.addMade(tx, row)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if p.isManifest(tx, d) {
		p.listed = append(p.listed, d)
	}
	p.blobs = append(p.blobs, d)
	if err := p.addImported(tx, d); err != nil {
		return err
	}
	return p.addLayers(tx, d)
}

// isManifest reports whether d, which is not known, is listed as a manifest.
func (p *imagePurge) isManifest(tx Tx, d digest.Digest) bool {
	return slices.ContainsFunc(p.below[d], func(by digest.Digest) bool {
		row, err := tx.Manifest(by)
		return err == nil && row.Manifest.IsIndex()
	})
}

// addMade plans for the image's SOCI index to go.
func (p *imagePurge) addMade(tx Tx, row ManifestRow) error {
	if _, err := tx.Image(row.Digest); err == nil {
		p.images = append(p.images, row.Digest)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	err := tx.Conversions(row.Digest, func(c ConversionRow) error {
		p.converted = append(p.converted, c)
		return nil
	})
	if err != nil {
		return err
	}
	return tx.Referrers(row.Digest, func(r ReferrerRow) error {
		p.referrers = append(p.referrers, r)
		p.made = append(p.made, r.Descriptor.Digest)
		return nil
	})
}

// addLayers plans for d's zTOCs and spans to go, if d is a layer.
func (p *imagePurge) addLayers(tx Tx, d digest.Digest) error {
	return tx.Layers(d, func(row LayerRow) error {
		p.layers = append(p.layers, row)
		if row.State != LayerIndexed {
			return nil
		}
		// A layer that differs in its gzip header alone has the same zTOC, and
		// maybe spans; the row says whose they are.
		own := func(d digest.Digest) (bool, error) {
			blob, err := tx.Blob(d)
			if errors.Is(err, ErrNotFound) {
				return false, nil
			}
			return err == nil && blob.Of == row.Digest, err
		}
		if ok, err := own(row.ZTOC); err != nil {
			return err
		} else if ok {
			p.made = append(p.made, row.ZTOC)
		}
		table, err := tableOf(tx, d, row.SpanSize)
		if err != nil {
			return nil //nolint:nilerr // a table that can't be read names no spans
		}
		for i := range table.Len() {
			span := table.Span(i).Digest
			if ok, err := own(span); err != nil {
				return err
			} else if ok {
				p.blobs = append(p.blobs, span)
			}
		}
		return nil
	})
}

// addRights plans for the rights to go of all that goes, and for those to blobs
// that stay of repositories that had them by this image alone.
func (p *imagePurge) addRights(tx Tx, stays map[digest.Digest]bool) error {
	gone, mine := map[digest.Digest]bool{}, map[oci.Repo]bool{}
	for _, d := range slices.Concat(p.made, p.blobs) {
		gone[d] = true
		err := tx.RightRepos(d, func(repo oci.Repo) error {
			p.rights = append(p.rights, right{repo, d})
			mine[repo] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	for d := range stays {
		if _, err := tx.Manifest(d); err == nil {
			continue // may have been pulled for its own sake
		}
		err := tx.RightRepos(d, func(repo oci.Repo) error {
			if !mine[repo] {
				return nil
			}
			for _, by := range p.below[d] {
				if gone[by] {
					continue
				}
				if ok, err := tx.HasRight(repo, by); ok || err != nil {
					return err
				}
			}
			p.rights = append(p.rights, right{repo, d})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// write deletes the rows.
func (p *imagePurge) write(tx Tx, blocks []BlockRow) error {
	if err := NotPinned(tx, p.root); err != nil {
		return err
	}
	errs := []error{deleteTags(tx, p.tags)}
	for _, row := range blocks {
		errs = append(errs, tx.PutBlock(row))
	}
	for _, r := range p.rights {
		errs = append(errs, tx.DeleteRight(r.repo, r.d))
	}
	for _, d := range p.imported {
		errs = append(errs, tx.DeleteImported(d))
	}
	for _, d := range p.images {
		errs = append(errs, tx.DeleteImage(d))
	}
	for _, r := range p.referrers {
		errs = append(errs, tx.DeleteReferrer(r.Subject, r.Descriptor.Digest), tx.DeleteManifest(r.Descriptor.Digest))
	}
	for _, d := range p.own {
		errs = append(errs, tx.DeleteManifest(d))
	}
	for i := range p.converted {
		c := &p.converted[i]
		errs = append(errs, unconvert(tx, c.Source.Digest, c.Index.Digest))
		for _, m := range c.Made {
			if slices.Contains(p.made, m.Digest) {
				errs = append(errs, tx.DeleteManifest(m.Digest))
			} else { // of a manifest that stays
				errs = append(errs, tx.PutRetired(RetiredRow{Digest: m.Digest}))
			}
		}
	}
	for i := range p.layers {
		errs = append(errs, tx.DeleteLayer(p.layers[i].Digest, p.layers[i].SpanSize))
	}
	return errors.Join(errs...)
}

func eachTag(tx Tx, fn func(TagRow) error) error {
	return tx.TagRepos(func(repo oci.Repo) error { return tx.Tags(repo, "", fn) })
}

// purgeBatch removes blobs and partials, n of which were there: rows, in one
// transaction with more, then bytes.
func (s *Store) purgeBatch(ctx context.Context, ds []digest.Digest, more func(Tx) error) (freed int64, n int, err error) {
	ds = slices.Compact(slices.Sorted(slices.Values(ds)))
	var locked []*entry
	defer func() {
		for _, e := range locked {
			s.digests.unlock(e)
		}
	}()
	rows := make(map[*entry]BlobRow, len(ds))
	for _, d := range ds {
		e, err := s.digests.lock(ctx, d)
		if err != nil {
			return 0, 0, err
		}
		locked = append(locked, e)
		row, err := s.Stat(ctx, d)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		rows[e] = row
	}
	ctx = context.WithoutCancel(ctx)
	err = s.meta.Update(ctx, func(tx Tx) error {
		for _, d := range ds {
			if err := tx.DeleteBlob(d); err != nil {
				return err
			}
		}
		if more == nil {
			return nil
		}
		return more(tx)
	})
	if err != nil {
		s.metrics.failed(opRow)
		return 0, 0, err
	}
	var errs []error
	for _, e := range locked {
		partial, err := s.removePartialLocked(ctx, e)
		errs = append(errs, err, s.drop(ctx, e))
		row, there := rows[e]
		if there {
			s.uncount(row)
			n++
		}
		freed += row.Size + partial
	}
	return freed, n, errors.Join(errs...)
}
