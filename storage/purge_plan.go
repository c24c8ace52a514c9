package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// imagePurge is what goes with an image.
type imagePurge struct {
	o      PurgeOptions
	own    []digest.Digest // manifests of which the bytes go
	listed []digest.Digest // manifests to block: those of an index that never came by, too
	made   []digest.Digest // what is never evicted: own, SOCI indexes, zTOCs
	blobs  []digest.Digest // the rest
	shared int

	all []digest.Digest                   // root, and what is below it
	by  map[digest.Digest][]digest.Digest // each of all -> the manifests that name it

	tags      []TagRow
	content   []ContentRow // that the repository no longer has
	rights    []right
	images    []digest.Digest
	referrers []ReferrerRow
	converted []ConversionRow
	layers    []LayerRow
	imported  []digest.Digest // layers
	retired   []digest.Digest // made of what goes, and offered no more or not yet
	retire    []digest.Digest // made of what stays, for what goes
	unmake    []digest.Digest // of made, what is part of a SOCI v2 image

	copied map[digest.Digest]bool // made here, and pushed to a hosted repository as well
}

type right struct {
	repo oci.Repo
	d    digest.Digest
}

// plan finds out what goes.
func (p *imagePurge) plan(ctx context.Context, tx Tx) (err error) {
	if _, err := tx.Manifest(p.o.Root); err != nil {
		return err
	}
	if err := p.notPinned(tx); err != nil {
		return err
	}
	if p.all, err = Below(tx, p.o.Root); err != nil {
		return err
	}
	if err := p.findNames(ctx, tx); err != nil {
		return err
	}
	if err := p.findTags(tx); err != nil {
		return err
	}
	keeps, err := p.findLost(tx)
	if err != nil {
		return err
	}
	return p.findGone(tx, keeps)
}

// notPinned refuses to purge what is pinned by a name of the repository, and to
// block what is by any.
func (p *imagePurge) notPinned(tx Tx) error {
	if p.o.Block != nil {
		return NotPinned(tx, p.o.Root)
	}
	return NotPinnedIn(tx, p.o.Repo, p.o.Root)
}

// findNames finds the manifests that name what is below root, but for those that
// were made here and not pushed, too: what these name belongs to the image that they
// were made of.
func (p *imagePurge) findNames(ctx context.Context, tx Tx) error {
	p.by = make(map[digest.Digest][]digest.Digest, len(p.all))
	for _, d := range p.all {
		p.by[d] = nil
		err := tx.NamedBy(d, func(by digest.Digest) error {
			if made, err := tx.Blob(by); err == nil && made.Kind == KindIndex {
				if copied, err := isHosted(tx, by); err != nil || !copied {
					return err
				}
			}
			p.by[d] = append(p.by[d], by)
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// findTags finds the tags that go: those of the repository that lead to root, and
// when that is blocked those of others that only cache it.
func (p *imagePurge) findTags(tx Tx) error {
	return tx.TagsOf(p.o.Root, func(repo oci.Repo, tag string) error {
		if repo != p.o.Repo {
			if p.o.Block == nil {
				return nil
			}
			if _, err := tx.Content(repo, p.o.Root); err == nil {
				return nil
			} else if !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		if p.o.Immutable != nil && !p.o.Force && p.o.Immutable(repo, tag) {
			return fmt.Errorf("tag %s of %s is %w", tag, repo, ErrImmutable)
		}
		p.tags = append(p.tags, TagRow{Repo: repo, Tag: tag, Digest: p.o.Root})
		return nil
	})
}

// closed adds to seeds, and gives, what a manifest names that is among them, or
// that is not below root and counts. Root itself is not asked about.
func (p *imagePurge) closed(seeds map[digest.Digest]bool, counts func(by digest.Digest) bool) map[digest.Digest]bool {
	for changed := true; changed; { // as many rounds as there are levels
		changed = false
		for _, d := range p.all {
			if d == p.o.Root || seeds[d] {
				continue
			}
			if slices.ContainsFunc(p.by[d], func(by digest.Digest) bool {
				_, inside := p.by[by]
				return seeds[by] || !inside && counts(by)
			}) {
				seeds[d], changed = true, true
			}
		}
	}
	return seeds
}

// findLost finds what the repository no longer has, and gives of all what it
// keeps: what another tag, a pin or another manifest of its own needs.
func (p *imagePurge) findLost(tx Tx) (keeps map[digest.Digest]bool, err error) {
	seeds := map[digest.Digest]bool{}
	for _, d := range p.all {
		if d == p.o.Root {
			continue
		}
		if seeds[d], err = p.needed(tx, d, p.o.Repo); err != nil {
			return nil, err
		}
	}
	keeps = p.closed(seeds, func(by digest.Digest) bool {
		has, rerr := p.counts(tx, by)
		err = errors.Join(err, rerr)
		return has
	})
	for _, d := range p.all {
		if keeps[d] || err != nil {
			continue
		}
		row, cerr := tx.Content(p.o.Repo, d)
		switch {
		case cerr == nil:
			p.content = append(p.content, row)
		case errors.Is(cerr, ErrNotFound):
			p.rights = append(p.rights, right{p.o.Repo, d})
		default:
			err = cerr
		}
	}
	return keeps, err
}

// counts reports whether the repository has the manifest d; of one that was made here,
// whether that was pushed to it: else it goes with the image that it was made of.
func (p *imagePurge) counts(tx Tx, d digest.Digest) (bool, error) {
	if made, err := tx.Blob(d); err != nil || made.Kind != KindIndex {
		return tx.HasRight(p.o.Repo, d)
	}
	_, err := tx.Content(p.o.Repo, d)
	return err == nil, ignoreAbsent(err)
}

// needed reports whether a pin, or a tag that stays, leads to d by a name of repo,
// or by any where that is zero.
func (p *imagePurge) needed(tx Tx, d digest.Digest, repo oci.Repo) (bool, error) {
	err := NotPinned(tx, d)
	if repo != (oci.Repo{}) {
		err = NotPinnedIn(tx, repo, d)
	}
	if err != nil {
		return errors.Is(err, ErrPinned), ignorePinned(err)
	}
	return found(tx.TagsOf(d, func(of oci.Repo, tag string) error {
		if repo != (oci.Repo{}) && of != repo || slices.Contains(p.tags, TagRow{Repo: of, Tag: tag, Digest: d}) {
			return nil
		}
		return errOne
	}))
}

func ignorePinned(err error) error {
	if errors.Is(err, ErrPinned) {
		return nil
	}
	return err
}

// findGone finds of which of all the bytes go: those that nothing names any more,
// and that no repository has.
func (p *imagePurge) findGone(tx Tx, keeps map[digest.Digest]bool) error {
	named, stays := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, d := range p.all {
		needed, err := p.needed(tx, d, oci.Repo{})
		if err != nil {
			return err
		}
		had, err := hadBy(tx, d, func(repo oci.Repo) bool { return repo != p.o.Repo || keeps[d] })
		if err != nil {
			return err
		}
		named[d], stays[d] = needed && d != p.o.Root, needed || had
	}
	always := func(digest.Digest) bool { return true }
	named, stays = p.closed(named, always), p.closed(stays, always)
	for _, d := range p.all {
		if !named[d] && p.isManifest(tx, d) {
			p.listed = append(p.listed, d)
		}
		if stays[d] {
			p.shared++
			continue
		}
		if err := p.add(tx, d); err != nil {
			return err
		}
	}
	if err := p.addConverted(tx); err != nil {
		return err
	}
	if err := p.addRetired(tx); err != nil {
		return err
	}
	if err := p.keepCopied(tx); err != nil {
		return err
	}
	return p.addRights(tx)
}

// keepCopied takes out of what was made here, and would go, what hosted repositories
// have that were pushed it.
func (p *imagePurge) keepCopied(tx Tx) error {
	p.copied = map[digest.Digest]bool{}
	for _, d := range p.made {
		copied, err := found(tx.ContentOf(d, func(repo oci.Repo) error {
			if slices.ContainsFunc(p.content, func(row ContentRow) bool { return row.Repo == repo && row.Digest == d }) {
				return nil
			}
			return errOne
		}))
		if err != nil {
			return err
		}
		if !copied {
			continue
		}
		p.copied[d] = true
		if _, err := tx.Content(p.o.Repo, d); errors.Is(err, ErrNotFound) {
			p.rights = append(p.rights, right{p.o.Repo, d})
		} else if err != nil {
			return err
		}
	}
	p.made = slices.DeleteFunc(p.made, func(d digest.Digest) bool { return p.copied[d] })
	return nil
}

// hadBy reports whether a repository of which counts says so has d.
func hadBy(tx Tx, d digest.Digest, counts func(oci.Repo) bool) (bool, error) {
	one := func(repo oci.Repo) error {
		if counts(repo) {
			return errOne
		}
		return nil
	}
	if had, err := found(tx.ContentOf(d, one)); had || err != nil {
		return had, err
	}
	return found(tx.RightRepos(d, one))
}

// add plans for d to go, and for all that was made of it.
func (p *imagePurge) add(tx Tx, d digest.Digest) error {
	row, err := tx.Manifest(d)
	switch {
	case err == nil:
		p.own, p.made = append(p.own, d), append(p.made, d)
		return p.addMade(tx, row)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	p.blobs = append(p.blobs, d)
	if err := p.addImported(tx, d); err != nil {
		return err
	}
	return p.addLayers(tx, d)
}

// isManifest reports whether d is a manifest, or one that never came by.
func (p *imagePurge) isManifest(tx Tx, d digest.Digest) bool {
	if _, err := tx.Manifest(d); err == nil {
		return true
	}
	return slices.ContainsFunc(p.by[d], func(by digest.Digest) bool {
		row, err := tx.Manifest(by)
		return err == nil && slices.ContainsFunc(row.Manifest.Manifests, func(m v1.Descriptor) bool { return m.Digest == d })
	})
}

// addMade plans for the image's SOCI index to go.
func (p *imagePurge) addMade(tx Tx, row ManifestRow) error {
	if img, err := tx.Image(row.Digest); err == nil {
		p.images = append(p.images, row.Digest)
		if err := p.addLearned(tx, &img); err != nil {
			return err
		}
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
		if r.Repo != (oci.Repo{}) {
			return nil // it was pushed: an orphan from now on
		}
		p.referrers = append(p.referrers, r)
		p.made = append(p.made, r.Descriptor.Digest)
		return nil
	})
}

// addRights plans for the rights to go of all that goes.
func (p *imagePurge) addRights(tx Tx) error {
	for _, d := range slices.Concat(p.made, p.blobs) {
		err := tx.RightRepos(d, func(repo oci.Repo) error {
			p.rights = append(p.rights, right{repo, d})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
