package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// errOne ends a walk through rows.
var errOne = errors.New("one is enough")

// sentence is what was found about a blob.
type sentence struct {
	row  BlobRow
	fate fate
	why  string
}

// blobs goes once through all bytes, and gives how many went.
func (g *collection) blobs(ctx context.Context) (n int, err error) {
	for last := digest.Digest(""); ; {
		var list []sentence
		rows := 0
		err := g.s.View(ctx, sure(func(tx Tx) error {
			list, rows = nil, 0
			visit := func(row BlobRow) error {
				if rows++; rows > collectBatch {
					return errOne
				}
				last = row.Digest
				f, why, err := g.blob(tx, row)
				if f != stays {
					list = append(list, sentence{row, f, why})
				}
				return errors.Join(err, ctx.Err())
			}
			all := tx.Blobs
			if last != "" {
				after := last
				all = func(fn func(BlobRow) error) error { return tx.BlobsAfter(after, fn) }
			}
			_, err := found(all(visit))
			return err
		}))
		if err != nil {
			return n, err
		}
		for batch := range slices.Chunk(list, collectWrites) {
			gone, err := g.dropBlobs(ctx, batch)
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

// dropBlobs removes what is garbage still and nobody uses: rows, then bytes. It
// waits for no lock: what is in use is left for the next time.
func (g *collection) dropBlobs(ctx context.Context, list []sentence) (n int, err error) {
	if g.dry {
		return g.dropDry(list), nil
	}
	locked := map[digest.Digest]*entry{}
	defer func() {
		for _, e := range locked {
			g.s.digests.unlock(e)
		}
	}()
	for _, x := range list {
		if e := g.s.digests.lockIdle(x.row.Digest); e != nil {
			locked[x.row.Digest] = e
		}
	}
	ctx = context.WithoutCancel(ctx) // a row that is gone wants its bytes removed
	var done []sentence
	err = g.s.meta.Update(ctx, sure(func(tx Tx) error {
		done = nil
		for _, x := range list {
			if locked[x.row.Digest] == nil {
				continue
			}
			x, err := g.drop(tx, x.row.Digest)
			if err != nil {
				return err
			}
			if x.fate != stays {
				done = append(done, x)
			}
		}
		return nil
	}))
	errs := []error{err}
	if err != nil {
		g.s.metrics.failed(opRow)
		if done, err = g.vanished(ctx, done); err != nil {
			return 0, errors.Join(append(errs, err)...)
		}
	}
	for _, x := range done {
		if x.fate == cached {
			g.s.uncount(x.row)
			x.row.Kind = KindBlob
			g.s.space.add(x.row.Kind, x.row.Size, 1)
			continue
		}
		errs = append(errs, g.s.drop(ctx, locked[x.row.Digest], x.row.Size)) // bytes that stay are swept
		g.s.uncount(x.row)
		g.report.Freed += x.row.Size
		g.tellBlob(x)
		n++
	}
	return n, errors.Join(errs...)
}

// dropDry is dropBlobs where nothing is to be removed: all that is garbage counts.
func (g *collection) dropDry(list []sentence) (n int) {
	for _, x := range list {
		if x.fate != goes {
			continue
		}
		g.deadBlobs[x.row.Digest] = true
		g.report.Freed += x.row.Size
		g.tellBlob(x)
		n++
	}
	return n
}

// vanished gives those of which the rows are gone, though to delete them failed:
// what failed may have been stored all the same.
func (g *collection) vanished(ctx context.Context, list []sentence) (gone []sentence, err error) {
	err = g.s.meta.View(ctx, sure(func(tx Tx) error {
		gone = nil
		for _, x := range list {
			if _, err := tx.Blob(x.row.Digest); errors.Is(err, ErrNotFound) {
				gone = append(gone, x)
			} else if err != nil {
				return err
			}
		}
		return nil
	}))
	return gone, err
}

// drop deletes the rows of a blob, if it is garbage still.
func (g *collection) drop(tx Tx, d digest.Digest) (x sentence, err error) {
	x.row, err = tx.Blob(d)
	if errors.Is(err, ErrNotFound) {
		return x, nil
	}
	if err == nil {
		x.fate, x.why, err = g.blob(tx, x.row)
	}
	if err != nil || x.fate == stays {
		return x, err
	}
	if x.fate == cached {
		row := x.row
		row.Kind = KindBlob
		return x, tx.PutBlob(row)
	}
	switch x.row.Kind {
	case KindManifest:
		err = forgetManifest(tx, d)
	case KindIndex:
		err = errors.Join(unlist(tx, x.row.Of, d), tx.DeleteManifest(d))
	case KindHot:
		err = forgetImported(tx, x.row)
	}
	return x, errors.Join(err, tx.DeleteBlob(d))
}

// tellBlob tells of bytes, but for those that were told of in this collection, when
// the last repository let go of them. The others are what clients deleted.
func (g *collection) tellBlob(x sentence) {
	if g.letGo[x.row.Digest] {
		delete(g.letGo, x.row.Digest)
		return
	}
	what := CollectedMade
	switch x.row.Kind {
	case KindHosted:
		what = CollectedBlob
	case KindManifest:
		what = CollectedManifest
	}
	g.tell(Collected{What: what, Digest: x.row.Digest, Bytes: x.row.Size, Reason: x.why})
}

// forgetManifest deletes all rows about a manifest but that of its bytes: tags,
// rights, what upstreams list for it, and its place among the images. Layers
// that no other image has are no longer indexed; what was made of them, and the
// image's index, is garbage from then on.
func forgetManifest(tx Tx, d digest.Digest) error {
	row, err := tx.Manifest(d)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	var tags []TagRow
	err = tx.TagsOf(d, func(repo oci.Repo, tag string) error {
		tags = append(tags, TagRow{Repo: repo, Tag: tag, Digest: d})
		return nil
	})
	if err != nil {
		return err
	}
	errs := []error{deleteTags(tx, tags), forgetImage(tx, d), tx.DeleteManifest(d)}
	var repos []oci.Repo
	errs = append(errs, tx.RightRepos(d, func(repo oci.Repo) error {
		repos = append(repos, repo)
		return nil
	}))
	for _, repo := range repos {
		errs = append(errs, tx.DeleteRight(repo, d), tx.DeleteUpstreamReferrers(repo, d))
	}
	for _, named := range Named(&row.Manifest) {
		errs = append(errs, forgetRights(tx, named))
	}
	errs = append(errs, forgetConversions(tx, d))
	return errors.Join(errs...)
}

// forgetConversions has no SOCI v2 image be offered for d any more.
func forgetConversions(tx Tx, d digest.Digest) error {
	var rows []ConversionRow
	err := tx.Conversions(d, func(row ConversionRow) error {
		rows = append(rows, row)
		return nil
	})
	for i := range rows {
		err = errors.Join(err, tx.DeleteConversion(d, rows[i].Repo))
	}
	return err
}

// forgetImage takes an image off the books of the indexer.
func forgetImage(tx Tx, d digest.Digest) error {
	img, err := tx.Image(d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	errs := []error{tx.DeleteImage(d)}
	if img.Index != "" {
		errs = append(errs, tx.DeleteReferrerIn(oci.Repo{}, d, img.Index))
	}
	for i := range img.Layers {
		errs = append(errs, forgetLayer(tx, img.Layers[i].Descriptor.Digest))
	}
	return errors.Join(errs...)
}

// forgetLayer deletes what is known of a layer that no image has any more.
func forgetLayer(tx Tx, d digest.Digest) error {
	had, err := found(tx.ImagesOf(d, func(ImageRow) error { return errOne }))
	if had || err != nil {
		return err
	}
	var rows []LayerRow
	err = errors.Join(tx.DeleteImported(d), tx.Layers(d, func(row LayerRow) error {
		rows = append(rows, row)
		return nil
	}))
	for i := range rows {
		err = errors.Join(err, tx.DeleteJob(d, rows[i].SpanSize), tx.DeleteLayer(d, rows[i].SpanSize))
	}
	return err
}

// forgetRights deletes rights to what was pulled and no manifest names any more:
// they are proven anew should it be asked for.
func forgetRights(tx Tx, d digest.Digest) error {
	named, err := found(tx.NamedBy(d, func(digest.Digest) error { return errOne }))
	if named || err != nil {
		return err
	}
	var repos []oci.Repo
	err = tx.RightRepos(d, func(repo oci.Repo) error {
		repos = append(repos, repo)
		return nil
	})
	for _, repo := range repos {
		if _, cerr := tx.Content(repo, d); errors.Is(cerr, ErrNotFound) {
			err = errors.Join(err, tx.DeleteRight(repo, d))
		} else if cerr != nil {
			err = errors.Join(err, cerr)
		}
	}
	return err
}
