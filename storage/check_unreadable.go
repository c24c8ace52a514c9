package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// unreadableFiles looks for rows of files that can't be read. Those of partials are
// named, and a repair deletes them. Those of blobs keep their files from being swept
// until these are filed anew: see unreadableBlobs.
func (c *check) unreadableFiles(ctx context.Context) (err error) {
	if c.badBlobs, err = c.unreadable(ctx, func(table string) bool { return table == TableBlobs }); err != nil {
		return err
	}
	rows, err := c.unreadable(ctx, func(table string) bool { return table == TablePartials })
	if err != nil {
		return err
	}
	return c.unreadableAll(ctx, rows)
}

// unreadableBlobs names those of blobs. By now a repair has filed what has its file,
// and it deletes the others.
func (c *check) unreadableBlobs(ctx context.Context) error {
	rows := c.badBlobs
	c.badBlobs = nil
	return c.unreadableAll(ctx, rows)
}

// unreadableRows names all others that can't be read: the bytes that tell what some
// of them said have been compared, and have rows.
func (c *check) unreadableRows(ctx context.Context) error {
	rows, err := c.unreadable(ctx, func(table string) bool { return table != TableBlobs && table != TablePartials })
	if err != nil {
		return err
	}
	return c.unreadableAll(ctx, rows)
}

// unreadable gives the rows that can't be read of the tables of which says so.
func (c *check) unreadable(ctx context.Context, of func(table string) bool) (rows []UnreadableRow, err error) {
	err = c.s.meta.View(ctx, func(tx Tx) error {
		rows = nil
		return tx.Unreadable(func(row UnreadableRow) error {
			if of(row.Table) {
				rows = append(rows, row)
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look for rows that can't be read: %w", err)
	}
	return rows, nil
}

func (c *check) unreadableAll(ctx context.Context, rows []UnreadableRow) error {
	for _, row := range rows {
		if err := c.unreadableRow(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

// remedy is what is done about a row that can't be read.
type remedy struct {
	then string         // told with it
	lost bool           // what it said is lost, and only a person can say it again
	do   func(Tx) error // nil: it stays
}

func (c *check) unreadableRow(ctx context.Context, row UnreadableRow) error {
	m, err := c.s.manifestOf(ctx, row)
	if err != nil {
		return err
	}
	var r remedy
	err = c.s.meta.View(ctx, func(tx Tx) (err error) {
		r, err = c.s.remedy(tx, row, m)
		return err
	})
	if err != nil {
		return fmt.Errorf("find out what %s was: %w", row, err)
	}
	mend := func() error {
		return c.s.meta.Update(ctx, func(tx Tx) error {
			r, err := c.s.remedy(tx, row, m) // as things are now
			if err != nil || r.do == nil {
				return err
			}
			return r.do(tx)
		})
	}
	switch {
	case r.do == nil:
		mend = nil
	case r.lost:
		if c.o.Repair { // which mends nothing
			if err := mend(); err != nil {
				return fmt.Errorf("delete %s: %w", row, err)
			}
		}
		return c.found(ctx, ProblemLost, row.Digest, nil, "the row %s can't be read: %s", row, r.then)
	}
	return c.found(ctx, ProblemRow, row.Digest, mend, "the row %s can't be read: %s", row, r.then)
}

// manifestOf reads the bytes of a manifest of which the row, or that about what it
// refers to, can't be read; nil where they are not here, or it is another row.
func (s *Store) manifestOf(ctx context.Context, row UnreadableRow) (*ManifestRow, error) {
	if row.Table != TableManifests && row.Table != TableReferrers || row.Digest == "" {
		return nil, nil
	}
	o := s.digests.opened(row.Digest)
	defer s.closed(o)
	b, _, err := s.openRow(ctx, row.Digest)
	if errors.Is(err, ErrNotFound) || errors.Is(err, errDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := manifestIn(b, row.Digest)
	return m, b.Close()
}

// remedy finds what is to be done about row; m is the manifest that it was of.
func (s *Store) remedy(tx Tx, row UnreadableRow, m *ManifestRow) (remedy, error) {
	drop := func(tx Tx) error { return tx.DropUnreadable(row) }
	if row.BadKey {
		return remedy{then: "its key is none of its table's; what a person said is put where it belongs, and the rest is made, or asked for, anew", do: drop}, nil
	}
	switch row.Table {
	case TableBlobs:
		return remedy{then: "what it was of is found out from the bytes", do: drop}, nil
	case TablePartials:
		return remedy{then: "its bytes are fetched anew", do: drop}, nil
	case TableManifests:
		if m != nil {
			return remedy{then: "the manifest is here", do: func(tx Tx) error { return tx.PutManifest(*m) }}, nil
		}
		if hosted, err := isHosted(tx, row.Digest); hosted || err != nil {
			return remedy{then: "it was pushed here, is not here, and has to be pushed again", lost: true, do: drop}, err
		}
	case TableTags:
		return s.remedyTag(tx, row, drop)
	case TableContent:
		return s.remedyContent(tx, row, drop)
	case TableReferrers:
		if row.Repo != (oci.Repo{}) {
			return remedyReferrer(row, m, drop), nil
		}
	case TableLayers:
		return remedyLayer(tx, row, drop)
	case TablePins:
		return remedyPin(tx, row, drop)
	case TableBlocks:
		block := BlockRow{Digest: row.Digest, Reason: "why could not be read", Created: s.now().UTC().Round(0)}
		return remedy{then: "it stays blocked", do: func(tx Tx) error { return tx.PutBlock(block) }}, nil
	}
	return remedy{then: "what it said is made, or asked for, anew", do: drop}, nil
}

// remedyPin: what a pin holds is filed under it, too. Where nothing is, it is another's.
func remedyPin(tx Tx, row UnreadableRow, drop func(Tx) error) (remedy, error) {
	holds, err := found(tx.AllPinned(func(d digest.Digest) error {
		return tx.PinsOf(d, func(pin PinRow) error {
			if pin.Reference == row.Name {
				return errOne
			}
			return nil
		})
	}))
	if holds {
		return remedy{then: "what it holds stays pinned; pin it again, or unpin it"}, err
	}
	return remedy{then: "it holds nothing; what it says of another is put there, if that is gone", do: drop}, err
}

// remedyTag: the tag is filed under its digest, too, which is all that there is of
// one that was pushed. Of others the upstream is asked.
func (s *Store) remedyTag(tx Tx, row UnreadableRow, drop func(Tx) error) (remedy, error) {
	hosted, err := found(tx.Contents(row.Repo, func(ContentRow) error { return errOne }))
	if err != nil {
		return remedy{}, err
	}
	if !hosted {
		return remedy{then: "its upstream is asked when it is next pulled", do: drop}, nil
	}
	tag, err := tx.Tag(row.Repo, row.Name)
	if errors.Is(err, ErrNotFound) {
		return remedy{then: "it was pushed here, and has to be pushed again", lost: true, do: drop}, nil
	}
	tag.Checked = s.now().UTC().Round(0)
	return remedy{then: "it means " + tag.Digest.String(), do: func(tx Tx) error { return tx.PutTag(tag) }}, err
}

// remedyContent: the key says what was pushed, the rest follows from the blob, or,
// where that is lost, from the manifest that names it.
func (s *Store) remedyContent(tx Tx, row UnreadableRow, drop func(Tx) error) (remedy, error) {
	now := s.now().UTC().Round(0)
	content, err := tx.Content(row.Repo, row.Digest)
	if errors.Is(err, ErrNotFound) {
		content = ContentRow{Repo: row.Repo, Digest: row.Digest, Lost: true}
		if content.Size, err = namedSize(tx, row.Digest); err == nil && content.Size < 0 {
			return remedy{then: "it was pushed here, is not here, and has to be pushed again", lost: true, do: drop}, nil
		}
	}
	if content.Pushed = now; !content.Released.IsZero() {
		content.Released = now
	}
	return remedy{then: "it was pushed there", do: func(tx Tx) error { return tx.PutContent(content) }}, err
}

// namedSize is the size of d by a manifest that names it; -1 where none does.
func namedSize(tx Tx, d digest.Digest) (size int64, err error) {
	size = -1
	_, err = found(tx.NamedBy(d, func(by digest.Digest) error {
		m, err := tx.Manifest(by)
		if err != nil {
			return ignoreAbsent(err)
		}
		named := append(append([]v1.Descriptor{}, m.Manifest.Layers...), m.Manifest.Manifests...)
		if m.Manifest.Config != nil {
			named = append(named, *m.Manifest.Config)
		}
		for i := range named {
			if named[i].Digest == d {
				size = named[i].Size
				return errOne
			}
		}
		return nil
	}))
	return size, err
}

// remedyReferrer: what was pushed is listed as its manifest says.
func remedyReferrer(row UnreadableRow, m *ManifestRow, drop func(Tx) error) remedy {
	if m == nil || m.Manifest.Subject == nil {
		return remedy{then: "its manifest is not here either: push it again", lost: true, do: drop}
	}
	ref := ReferrerRow{Repo: row.Repo, Subject: m.Manifest.Subject.Digest, Descriptor: v1.Descriptor{
		MediaType: m.Manifest.MediaType, Digest: m.Digest, Size: m.Size,
		ArtifactType: m.Manifest.ArtifactType, Annotations: m.Manifest.Annotations,
	}}
	return remedy{then: "it is listed as its manifest says", do: func(tx Tx) error { return tx.PutReferrer(ref) }}
}

// remedyLayer: a layer that an image has is indexed anew.
func remedyLayer(tx Tx, row UnreadableRow, drop func(Tx) error) (remedy, error) {
	size := int64(-1)
	_, err := found(tx.ImagesOf(row.Digest, func(img ImageRow) error {
		for _, l := range img.Layers {
			if l.Descriptor.Digest == row.Digest && l.SpanSize == row.SpanSize {
				size = l.Descriptor.Size
				return errOne
			}
		}
		return nil
	}))
	if err != nil || size < 0 {
		return remedy{then: "no image has the layer", do: drop}, err
	}
	layer := LayerRow{Digest: row.Digest, SpanSize: row.SpanSize, Size: size}
	return remedy{then: "it is indexed anew", do: func(tx Tx) error { return wantAgain(tx, layer) }}, nil
}
