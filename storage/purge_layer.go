package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// PurgeBlob removes a blob and all that is known of it: its bytes, what there is
// of it in a partial, and the rights of repositories to it; of a layer its spans
// and its zTOC, too, and the SOCI indexes that name that go off their lists. It
// refuses what hosted repositories have, ErrHosted, unless force says that they
// shall not have it any longer: tags that lead to it go then, too, and it can be
// pushed again. It is not atomic: to repeat it removes what a crash left.
func (s *Store) PurgeBlob(ctx context.Context, d digest.Digest, force bool) (out Purged, err error) {
	_, err = s.Stat(ctx, d)
	if err == nil {
		out.Blobs = 1
	} else if !errors.Is(err, ErrNotFound) {
		return out, err
	}
	if out.Freed, err = s.PurgeFile(ctx, d, force); err != nil {
		return out, err
	}
	var gone []digest.Digest
	err = s.meta.Update(ctx, func(tx Tx) (err error) {
		gone, err = forgetBlob(tx, d)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("forget %s: %w", d, err)
	}
	for batch := range slices.Chunk(gone, maxBatch) {
		err := s.purgeBatch(ctx, batch, &out, func(tx Tx) (mayGo, error) {
			return func(x digest.Digest) (bool, error) { return s.madeOf(tx, x, d) }, nil
		})
		if err != nil {
			return out, fmt.Errorf("purge what was made of %s: %w", d, err)
		}
	}
	return out, nil
}

// forgetBlob deletes the rows that lead to d, or that it is indexed by, and gives
// what may be here of it or was made of it.
func forgetBlob(tx Tx, d digest.Digest) (gone []digest.Digest, err error) {
	var layers []LayerRow
	err = tx.Layers(d, func(row LayerRow) error {
		if row.State == LayerIndexed {
			layers = append(layers, row)
		}
		return nil
	})
	for i := range layers {
		row := &layers[i]
		if table, terr := tableOf(tx, d, row.SpanSize); terr == nil { // else it names no spans
			for i := range table.Len() {
				gone = append(gone, table.Span(i).Digest)
			}
		}
		blob, berr := tx.Blob(row.ZTOC)
		if berr == nil && blob.Of == d {
			gone = append(gone, row.ZTOC)
			err = errors.Join(err, unindex(tx, row.ZTOC))
		} else { // another layer's too, that differs in its gzip header alone
			err = errors.Join(err, ignoreAbsent(berr), wantAgain(tx, *row))
		}
	}
	p := &imagePurge{}
	err = errors.Join(err, p.addImported(tx, d))
	for _, layer := range p.imported {
		err = errors.Join(err, tx.DeleteImported(layer))
	}
	gone = slices.Concat(gone, p.made, p.blobs)
	var repos []oci.Repo
	err = errors.Join(err, tx.RightRepos(d, func(repo oci.Repo) error {
		repos = append(repos, repo)
		return nil
	}))
	for _, repo := range repos {
		err = errors.Join(err, tx.DeleteRight(repo, d))
	}
	return gone, err
}

// madeOf reports whether x may go with the layer d: what was made of it, or is about
// to get its row as that, and is neither pinned nor pushed in its own right.
func (s *Store) madeOf(tx Tx, x, d digest.Digest) (bool, error) {
	row, err := tx.Blob(x)
	if errors.Is(err, ErrNotFound) {
		p := s.digests.pendingOf(x)
		return p != nil && p.row.Of == d, nil
	}
	if err != nil || row.Of != d {
		return false, err
	}
	if copied, err := isHosted(tx, x); err != nil || copied {
		return false, err
	}
	err = NotPinned(tx, x)
	return err == nil, ignorePinned(err)
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
