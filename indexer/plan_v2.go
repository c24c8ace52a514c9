package indexer

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// conversionPlan is what is to be done about the converted form of an image.
type conversionPlan struct {
	source  storage.ManifestRow
	tags    []string // of the repository, that lead to the source and may have a converted form
	rule    *Rule    // nil: none that converts
	indexes []PlatformIndex
	// prefetch is what indexes name of what was learnt, one each.
	prefetch []platformPrefetch
	waiting  []digest.Digest // manifests that the rule names by platform, and that are not through
	old      *storage.ConversionRow
	// settings stand for all that shapes the bytes, but for the source.
	settings  string
	platforms []string
	due       bool // something is to be made, or withdrawn
}

// planConversion looks at the rows of an image, and at which layers of which of
// its platforms are through. Without a tag that leads to it nothing changes.
func (x *Indexer) planConversion(tx storage.Tx, repo oci.Repo, source digest.Digest) (p conversionPlan, err error) {
	if old, err := tx.Conversion(source, repo); err == nil {
		p.old = &old
	} else if !errors.Is(err, storage.ErrNotFound) {
		return p, err
	}
	if p.source, err = tx.Manifest(source); err != nil {
		return p, ignoreNotFound(err)
	}
	err = tx.TagsOf(source, func(r oci.Repo, tag string) error {
		if r == repo && Converts(tag) {
			p.tags = append(p.tags, tag)
		}
		return nil
	})
	if err != nil || len(p.tags) == 0 {
		return p, err
	}
	made, err := isMadeHere(tx, source)
	if err != nil {
		return p, err
	}
	rule := x.ruleFor(named{repo, p.tags})
	if !rule.converts() || p.source.Manifest.IsSOCI() || made {
		p.due = p.old != nil
		return p, nil
	}
	p.rule = rule
	for _, a := range askedOf(&p.source, rule) {
		if err := x.addPlatform(tx, repo, &p, a, len(rule.Platforms) > 0); err != nil {
			return p, err
		}
	}
	return p, p.settle()
}

func isMadeHere(tx storage.Tx, d digest.Digest) (bool, error) {
	row, err := tx.Blob(d)
	return err == nil && row.Kind == storage.KindIndex, ignoreNotFound(err)
}

// asked is a platform that may get a SOCI index.
type asked struct {
	manifest digest.Digest
	platform v1.Platform // as the official tool is given it
}

// askedOf lists the platforms: those that the rule names, each the first that
// matches, or else all, as the source spells them.
func askedOf(source *storage.ManifestRow, rule *Rule) (out []asked) {
	if !source.Manifest.IsIndex() {
		return []asked{{manifest: source.Digest}}
	}
	var all []asked
	seen := map[string]bool{}
	for i := range source.Manifest.Manifests {
		d := &source.Manifest.Manifests[i]
		if name := platformName(d.Platform); name != "" && !seen[name] && isImageManifest(d.MediaType) {
			seen[name] = true
			all = append(all, asked{d.Digest, *d.Platform})
		}
	}
	if len(rule.Platforms) == 0 {
		return all
	}
	for _, name := range rule.Platforms {
		p, err := oci.ParsePlatform(name)
		i := slices.IndexFunc(all, func(a asked) bool { return oci.SamePlatform(a.platform, p) })
		if err == nil && i >= 0 {
			out = append(out, asked{all[i].manifest, p})
		}
	}
	return out
}

// addPlatform adds a platform's SOCI index, if it has one by now.
func (x *Indexer) addPlatform(tx storage.Tx, repo oci.Repo, p *conversionPlan, a asked, named bool) error {
	img, err := tx.Image(a.manifest)
	if errors.Is(err, storage.ErrNotFound) {
		if named {
			p.waiting = append(p.waiting, a.manifest)
		}
		return nil
	}
	if err != nil || img.WithdrawnFrom(repo) || !wants(asAsked(p.rule, img.Asked, img.Asked.In(repo)), &img) {
		return err
	}
	layers, through, err := zTOCsOf(tx, &img)
	switch {
	case err != nil:
		return err
	case !through && named:
		p.waiting = append(p.waiting, a.manifest)
		return nil
	case !through || len(layers) == 0:
		return nil
	}
	prefetch, err := x.prefetchFor(tx, a.manifest, layers)
	if err != nil {
		return err
	}
	body, err := EncodeIndexV2(layers, descriptors(prefetch.blobs))
	if err != nil {
		return err
	}
	p.prefetch = append(p.prefetch, prefetch)
	p.indexes = append(p.indexes, PlatformIndex{Manifest: a.manifest, Platform: a.platform, Body: body})
	p.platforms = append(p.platforms, platformName(&a.platform))
	return nil
}

// settle decides whether what is there by now is to be made. The platforms of a
// conversion that is there only ever become more, unless the rule names others:
// one that is built anew does not take the others from those who use them.
func (p *conversionPlan) settle() error {
	if len(p.waiting) > 0 || len(p.indexes) == 0 {
		return nil
	}
	parts := make([]string, 0, 2*len(p.indexes))
	for i, x := range p.indexes {
		parts = append(parts, p.platforms[i], digest.FromBytes(x.Body).String())
	}
	text, err := json.Marshal(parts)
	if err != nil {
		return err
	}
	p.settings = digest.FromBytes(text).Encoded()
	if p.old == nil {
		p.due = true
		return nil
	}
	if p.old.Settings == p.settings {
		return nil
	}
	if len(p.rule.Platforms) == 0 {
		for _, had := range p.old.Platforms {
			if !slices.Contains(p.platforms, had) {
				return nil
			}
		}
	}
	p.due = true
	return nil
}

// zTOCsOf gives the layers of an image that have a zTOC; through is false while
// one is wanted.
func zTOCsOf(tx storage.Tx, img *storage.ImageRow) (layers []IndexLayer, through bool, err error) {
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.SpanSize == 0 {
			continue
		}
		row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
		if errors.Is(err, storage.ErrNotFound) || err == nil && row.State == storage.LayerWanted {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		if row.State == storage.LayerIndexed {
			layers = append(layers, IndexLayer{
				Layer: l.Descriptor, ZTOC: row.ZTOC, ZTOCSize: row.ZTOCSize, SpanSize: l.SpanSize,
			})
		}
	}
	return layers, true, nil
}
