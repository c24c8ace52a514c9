package indexer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Manifest says that an image manifest was stored and was found in repo. The
// rules decide which of its layers are wanted; where all of them are through
// already, its index is listed when Manifest returns. Of an image index those
// manifests are looked at again that are known, since it may say by which tag,
// and for which platform, they are. SOCI indexes and artifacts without a layer
// are ignored. Repeating it changes
// nothing and costs one read. An error means that nothing was noted; the
// manifest itself is none the worse for it.
func (x *Indexer) Manifest(ctx context.Context, repo oci.Repo, row storage.ManifestRow) error {
	if x.opt.Disabled {
		return nil
	}
	if row.Manifest.IsIndex() {
		return x.indexSeen(ctx, row)
	}
	if !indexable(&row.Manifest) {
		return nil
	}
	row = row.Lean()
	subject := v1.Descriptor{MediaType: row.Manifest.MediaType, Digest: row.Digest, Size: row.Size}
	err := x.note(ctx, row.Digest, func(img *storage.ImageRow) []v1.Descriptor {
		img.Manifest = subject
		if !slices.Contains(img.Repos, repo) {
			img.Repos = append(img.Repos, repo)
		}
		return row.Manifest.Layers
	})
	if err != nil {
		return fmt.Errorf("note image %s: %w", row.Digest, err)
	}
	return nil
}

// indexSeen looks again at the images that an index names.
func (x *Indexer) indexSeen(ctx context.Context, row storage.ManifestRow) error {
	var known []digest.Digest
	err := x.store.View(ctx, func(tx storage.Tx) error {
		known = known[:0]
		for i := range row.Manifest.Manifests {
			d := row.Manifest.Manifests[i].Digest
			_, err := tx.Image(d)
			if err == nil {
				known = append(known, d)
			} else if !errors.Is(err, storage.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	for _, d := range known {
		if err == nil {
			err = x.note(ctx, d, layersOf)
		}
	}
	if err != nil {
		return fmt.Errorf("note images of %s: %w", row.Digest, err)
	}
	return nil
}

// note applies the rules to the image manifest d, writes what follows, and
// publishes what is due. see adds to the image's row, which is empty for a new
// image, what is known now, and gives its layers.
func (x *Indexer) note(ctx context.Context, d digest.Digest, see func(*storage.ImageRow) []v1.Descriptor) error {
	var n notes
	for {
		rules := x.rules.Load()
		var err error
		if n, err = x.writeNotes(ctx, d, see); err != nil {
			return err
		}
		if rules == x.rules.Load() {
			break // else resume may have looked before this was written
		}
	}
	for _, reason := range n.skipped {
		x.m.skipped.WithLabelValues(ReasonWord(reason)).Inc()
	}
	for _, d := range n.wanted {
		x.Whole(d) // it may have come before its manifest
	}
	if !n.settled {
		x.publishOrRetry(ctx, d)
		return nil
	}
	return x.considerConversions(ctx, d)
}

func (x *Indexer) writeNotes(ctx context.Context, d digest.Digest, see func(*storage.ImageRow) []v1.Descriptor) (n notes, err error) {
	take := func(tx storage.Tx) (err error) {
		n, err = x.takeNotes(tx, d, see)
		return err
	}
	if err := x.store.View(ctx, take); err != nil || n.img == nil && len(n.layers) == 0 {
		return n, err
	}
	return n, x.store.Update(ctx, func(tx storage.Tx) error {
		if err := take(tx); err != nil {
			return err
		}
		if err := n.write(tx); err != nil {
			return err
		}
		return x.tellUnfit(tx, &n)
	})
}

// notes are the rows that the rules of today ask for and that are not there.
type notes struct {
	img     *storage.ImageRow  // nil: it is there
	layers  []storage.LayerRow // to be wanted
	wanted  []digest.Digest    // these, and those that are already
	settled bool               // published, and nothing new: there is nothing to look for
	skipped []string           // reasons, where the image was seen otherwise before

	unfit []storage.ImageLayer // layers of which that is news
}

func (x *Indexer) takeNotes(tx storage.Tx, d digest.Digest, see func(*storage.ImageRow) []v1.Descriptor) (notes, error) {
	if made, err := isMadeHere(tx, d); err != nil || made {
		return notes{settled: true}, err // of a converted image: what it was made of is indexed
	}
	old, err := tx.Image(d)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return notes{}, err
	}
	img := old
	if errors.Is(err, storage.ErrNotFound) {
		img.Fetched = x.isUnpulled(d)
	}
	img.Repos, img.Tags = slices.Clone(old.Repos), slices.Clone(old.Tags)
	descriptors := see(&img)
	if err := seeNames(tx, d, &img); err != nil {
		return notes{}, err
	}
	img.Layers = decide(nil, img.Platform, descriptors) // what a rule is chosen by
	img.Layers = decide(x.ruleOf(&img), img.Platform, descriptors)

	var n notes
	sameLayers := reflect.DeepEqual(old.Layers, img.Layers)
	if !sameLayers || !slices.Equal(old.Repos, img.Repos) || !slices.Equal(old.Tags, img.Tags) ||
		old.Platform != img.Platform || !reflect.DeepEqual(old.Asked, img.Asked) ||
		old.Withdrawn != img.Withdrawn || !slices.Equal(old.WithdrawnIn, img.WithdrawnIn) {
		n.img = &img
	}
	outdated, err := x.outdatedLearned(tx, &img)
	if err != nil {
		return n, err
	}
	if sameLayers && img.Index != "" && x.offersV1Anywhere(&img) && !outdated {
		n.settled = true
		return n, nil
	}
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.Skip != "" && !sameLayers {
			n.skipped = append(n.skipped, l.Skip)
			known := func(was storage.ImageLayer) bool {
				return was.Descriptor.Digest == l.Descriptor.Digest && was.Skip == l.Skip
			}
			if unfit(l.Skip) && !slices.ContainsFunc(old.Layers, known) {
				n.unfit = append(n.unfit, *l)
			}
		}
		if l.SpanSize != 0 && !slices.Contains(n.wanted, l.Descriptor.Digest) {
			if err := n.addLayer(tx, l, x.limits); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// addLayer notes what is missing for one layer that a rule wants.
func (n *notes) addLayer(tx storage.Tx, l *storage.ImageLayer, limits Limits) error {
	d := l.Descriptor.Digest
	row, err := tx.Layer(d, l.SpanSize)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		row = storage.LayerRow{Digest: d, SpanSize: l.SpanSize, Size: l.Descriptor.Size}
	case err != nil:
		return err
	case row.State == storage.LayerWanted:
		n.wanted = append(n.wanted, d)
		return nil
	default:
		again, err := wantedAgain(tx, &row, l, limits)
		if err != nil || !again {
			return err
		}
	}
	row.State = storage.LayerWanted
	n.layers = append(n.layers, row)
	n.wanted = append(n.wanted, d)
	return nil
}

// wantedAgain reports whether a layer that was through is to be built after
// all: it was refused when read in another way than this image wants, or when
// less was allowed, or its zTOC is lost.
func wantedAgain(tx storage.Tx, row *storage.LayerRow, l *storage.ImageLayer, limits Limits) (bool, error) {
	if row.State == storage.LayerSkipped {
		c, _ := classify(l.Descriptor.MediaType)
		return limits.allow(row) || wasRead(row.Reason) && !wasTried(row.Reason, c), nil
	}
	_, err := tx.Blob(row.ZTOC)
	return errors.Is(err, storage.ErrNotFound), ignoreNotFound(err)
}

func (n *notes) write(tx storage.Tx) error {
	if n.img != nil {
		if err := errors.Join(tx.PutImage(*n.img), shareLearned(tx, n.img)); err != nil {
			return err
		}
		if n.img.Index != "" { // some repositories are new
			if err := shareConfig(tx, n.img.Repos...); err != nil {
				return err
			}
		}
	}
	for _, row := range n.layers {
		if err := tx.PutLayer(row); err != nil {
			return err
		}
	}
	return nil
}
