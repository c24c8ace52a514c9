package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// What keeps something from being purged, unless force is used.
var (
	ErrImmutable = errors.New("immutable") // a tag that always means the same
	ErrHosted    = errors.New("pushed")    // there may be no other copy of it
)

// PurgeOptions say which image is to go, and how.
type PurgeOptions struct {
	Repo oci.Repo      // what it has of the image goes
	Root digest.Digest // the image's manifest or index
	// Block, if not nil, keeps the image's manifests out from then on, whatever
	// repository has them; its Digest is set for each.
	Block *BlockRow
	Force bool // immutable tags go, too
	// Immutable reports tags that only Force deletes; nil: none.
	Immutable func(repo oci.Repo, tag string) bool
}

// Purged is what became of an image.
type Purged struct {
	Manifests []digest.Digest // that went: the image's own, root first
	Blobs     int             // that went in all, spans and what was made here included
	Freed     int64           // bytes of all of them
	Shared    int             // blobs and manifests that stayed, since something else here needs them
	Blocked   []digest.Digest // that are kept out from now on
}

// PurgeImage takes an image from a repository: its tags that lead to root, and
// what the repository has of root and of all that is below it, unless another
// tag or manifest of its own, or a pin, needs that. Bytes that no repository has
// and nothing names any more go, too, with what was made of them; those that
// another repository has stay.
//
// ErrNotFound when no such manifest is known, ErrPinned when a pin of the
// repository holds it, ErrImmutable. It is not atomic: when it fails half-way, or
// a crash does, what is left are bytes that are garbage.
func (s *Store) PurgeImage(ctx context.Context, o PurgeOptions) (Purged, error) {
	if err := s.count(ctx); err != nil {
		return Purged{}, err
	}
	p := &imagePurge{o: o}
	err := s.meta.View(ctx, func(tx Tx) error {
		p = &imagePurge{o: o}
		return p.plan(ctx, tx)
	})
	if err != nil {
		return Purged{}, fmt.Errorf("purge image %s: %w", o.Root, err)
	}
	var out Purged
	// Rows first, and with them what is never evicted: should this end half-way,
	// no row is left that names what is gone. What goes is found anew then, for
	// somebody may have pushed in between.
	first := p.going()
	first = first[:min(len(first), maxBatch)]
	err = s.purgeBatch(ctx, first, &out, func(tx Tx) (mayGo, error) {
		p = &imagePurge{o: o}
		if err := p.plan(ctx, tx); err != nil {
			return nil, err
		}
		going := p.going()
		return func(d digest.Digest) (bool, error) { return slices.Contains(going, d), nil }, p.write(tx, s)
	})
	if err != nil {
		return out, fmt.Errorf("purge image %s: %w", o.Root, err)
	}
	out.Manifests, out.Shared = p.own, p.shared
	if o.Block != nil {
		out.Blocked = p.listed
	}
	rest := slices.DeleteFunc(p.going(), func(d digest.Digest) bool { return slices.Contains(first, d) })
	for batch := range slices.Chunk(rest, maxBatch) {
		err := s.purgeBatch(ctx, batch, &out, func(tx Tx) (mayGo, error) {
			return func(d digest.Digest) (bool, error) { return unneeded(tx, d) }, nil
		})
		if err != nil {
			return out, fmt.Errorf("purge image %s: %w", o.Root, err)
		}
	}
	return out, nil
}

// going gives what goes, what is never evicted first.
func (p *imagePurge) going() []digest.Digest { return append(slices.Clone(p.made), p.blobs...) }

// unneeded reports that nothing has come to need d again.
func unneeded(tx Tx, d digest.Digest) (bool, error) {
	if pinned, err := tx.Pinned(d); pinned || err != nil {
		return false, err
	}
	if had, err := hadBy(tx, d, func(oci.Repo) bool { return true }); had || err != nil {
		return false, err
	}
	named, err := found(tx.NamedBy(d, func(by digest.Digest) error {
		if made, err := tx.Blob(by); err == nil && made.Kind == KindIndex {
			return nil
		}
		return errOne
	}))
	return !named && err == nil, err
}

// dropContent is DropContent, of which is told.
func (s *Store) dropContent(tx Tx, row ContentRow) error {
	if err := DropContent(tx, row, s.now()); err != nil {
		return err
	}
	return s.tellDropped(tx, Dropped{Repo: row.Repo, Target: s.target(tx, row)})
}

// target describes content, as far as it is known.
func (*Store) target(tx Tx, row ContentRow) v1.Descriptor {
	d := v1.Descriptor{MediaType: "application/octet-stream", Digest: row.Digest, Size: row.Size}
	if m, err := tx.Manifest(row.Digest); err == nil && row.Manifest {
		d.MediaType, d.Size = m.Manifest.MediaType, m.Size
	}
	return d
}

// Dropped is what a hosted repository no longer has, for another reason than
// that a client deleted it.
type Dropped struct {
	Repo   oci.Repo
	Tag    string        // the tag, where only that went
	Target v1.Descriptor // of the manifest or blob
}

func (s *Store) tellDropped(tx Tx, x Dropped) error {
	if s.dropped == nil {
		return nil
	}
	return s.dropped(tx, x)
}

// PurgeFile is Purge, but that it refuses what hosted repositories have, unless
// force says otherwise, as PurgeBlob does. Of a layer the index stays, by which it
// goes on to be served from upstream.
func (s *Store) PurgeFile(ctx context.Context, d digest.Digest, force bool) (freed int64, err error) {
	if err := s.count(ctx); err != nil {
		return 0, err
	}
	e, err := s.digests.lock(ctx, d) // nobody pushes it meanwhile
	if err != nil {
		return 0, err
	}
	defer s.digests.unlock(e)
	if force {
		err = s.meta.Update(ctx, func(tx Tx) error { return s.dropFromAll(tx, d) })
	} else {
		err = s.meta.View(ctx, func(tx Tx) error { return NotHosted(tx, d) })
	}
	if err != nil {
		return 0, err
	}
	return s.purgeLocked(ctx, e)
}

// NotHosted is nil, or an ErrHosted that names the repositories that have d.
func NotHosted(tx Tx, d digest.Digest) error {
	var repos []string
	err := tx.ContentOf(d, func(repo oci.Repo) error {
		repos = append(repos, repo.String())
		return nil
	})
	if err != nil || len(repos) == 0 {
		return err
	}
	more := ""
	if n := len(repos) - maxNamed; n > 0 {
		repos, more = repos[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("%s was %w to %s%s", d, ErrHosted, strings.Join(repos, ", "), more)
}

// maxNamed bounds the repositories that a message names.
const maxNamed = 5

func (s *Store) dropFromAll(tx Tx, d digest.Digest) error {
	var rows []ContentRow
	var tags []TagRow
	err := tx.ContentOf(d, func(repo oci.Repo) error {
		row, err := tx.Content(repo, d)
		if errors.Is(err, ErrUnreadable) {
			row, err = ContentRow{Repo: repo, Digest: d}, nil
		}
		rows = append(rows, row)
		return err
	})
	if err == nil && len(rows) > 0 {
		err = tx.TagsOf(d, func(repo oci.Repo, tag string) error {
			tags = append(tags, TagRow{Repo: repo, Tag: tag, Digest: d})
			return nil
		})
	}
	if err != nil {
		return err
	}
	for _, row := range tags {
		if _, cerr := tx.Content(row.Repo, d); cerr == nil {
			err = errors.Join(err, tx.DeleteTag(row.Repo, row.Tag))
		}
	}
	for _, row := range rows {
		err = errors.Join(err, s.dropContent(tx, row))
	}
	return err
}

func (s *Store) blocks(block *BlockRow, ds []digest.Digest) (rows []BlockRow) {
	if block == nil {
		return nil
	}
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

// write deletes the rows.
func (p *imagePurge) write(tx Tx, s *Store) error {
	errs := []error{deleteTags(tx, p.tags)}
	for _, row := range p.content {
		errs = append(errs, s.dropContent(tx, row))
	}
	blocks := s.blocks(p.o.Block, p.listed)
	for _, row := range blocks {
		errs = append(errs, tx.PutBlock(row))
	}
	for _, r := range p.rights {
		errs = append(errs, tx.DeleteRight(r.repo, r.d))
	}
	for _, d := range p.imported {
		errs = append(errs, tx.DeleteImported(d))
	}
	var gone []digest.Digest // manifests
	for _, d := range p.retired {
		errs, gone = append(errs, tx.DeleteRetired(d)), append(gone, d)
	}
	for _, d := range p.images {
		errs = append(errs, tx.DeleteImage(d))
	}
	for _, r := range p.referrers {
		errs, gone = append(errs, tx.DeleteReferrerIn(r.Repo, r.Subject, r.Descriptor.Digest)), append(gone, r.Descriptor.Digest)
	}
	for i := range p.converted {
		errs = append(errs, unconvert(tx, p.converted[i].Source.Digest, p.converted[i].Index.Digest))
	}
	for _, d := range slices.Concat(gone, p.own, p.unmake) {
		if !p.copied[d] {
			errs = append(errs, tx.DeleteManifest(d))
		}
	}
	for _, d := range p.retire {
		errs = append(errs, tx.PutRetired(RetiredRow{Digest: d}))
	}
	for i := range p.layers {
		errs = append(errs, tx.DeleteLayer(p.layers[i].Digest, p.layers[i].SpanSize))
	}
	return errors.Join(errs...)
}

func eachTag(tx Tx, fn func(TagRow) error) error {
	return tx.TagRepos(func(repo oci.Repo) error { return tx.Tags(repo, "", fn) })
}

// mayGo says in a transaction whether a blob may go.
type mayGo func(digest.Digest) (bool, error)

// purgeBatch removes blobs and partials: rows, then bytes. begin runs first in
// the transaction, and gives the function that says there whether one may go.
func (s *Store) purgeBatch(ctx context.Context, ds []digest.Digest, out *Purged, begin func(Tx) (mayGo, error)) error {
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
			return err
		}
		locked = append(locked, e)
		row, err := s.Stat(ctx, d)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		rows[e] = row
	}
	ctx = context.WithoutCancel(ctx)
	gone, err := s.deleteRows(ctx, locked, begin)
	errs := []error{err}
	for _, e := range gone {
		partial, err := s.removePartialLocked(ctx, e)
		row, there := rows[e]
		errs = append(errs, err, s.drop(ctx, e, row.Size))
		if there {
			s.uncount(row)
			out.Blobs++
		}
		out.Freed += row.Size + partial
	}
	return errors.Join(errs...)
}

// deleteRows deletes the rows of those that may go, and gives these; with an error,
// too, where what failed is stored all the same.
func (s *Store) deleteRows(ctx context.Context, locked []*entry, begin func(Tx) (mayGo, error)) (gone []*entry, err error) {
	var filed digest.Digest // one of those that had a row
	err = s.meta.Update(ctx, func(tx Tx) error {
		gone, filed = nil, ""
		may, err := begin(tx)
		if err != nil {
			return err
		}
		for _, e := range locked {
			if ok, err := may(e.d); err != nil {
				return err
			} else if !ok {
				continue
			}
			if _, err := tx.Blob(e.d); err == nil {
				filed = e.d
			}
			if err := tx.DeleteBlob(e.d); err != nil {
				return err
			}
			gone = append(gone, e)
		}
		return nil
	})
	if err == nil {
		return gone, nil
	}
	s.metrics.failed(opRow)
	if filed == "" || !s.hasNoRow(ctx, filed) {
		return nil, err
	}
	return gone, err
}
