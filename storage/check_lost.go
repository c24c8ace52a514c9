package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// lostPart is a part of a hosted image that was pushed and is not here.
type lostPart struct {
	repo        oci.Repo
	image, part digest.Digest
	filed       bool // its row says that it is lost
}

// lost names the hosted images that miss parts, each time until they are pushed
// again: there is nothing here to mend them from.
func (c *check) lost(ctx context.Context) error {
	var list []lostPart
	err := c.s.meta.View(ctx, func(tx Tx) error {
		list = nil
		return tx.Manifests(func(row ManifestRow) error {
			parts, err := lostParts(tx, row)
			list = append(list, parts...)
			return errors.Join(err, ctx.Err())
		})
	})
	if err == nil {
		err = c.lostManifests(ctx)
	}
	if err != nil {
		return fmt.Errorf("look for lost parts of hosted images: %w", err)
	}
	for _, x := range list {
		if c.o.Repair && !x.filed {
			if err := c.s.fileLost(ctx, x.part); err != nil {
				return err
			}
		}
		err := c.found(ctx, ProblemLost, x.part, nil, "%s@%s, which was pushed here, misses it: push the image again", x.repo, x.image)
		if err != nil {
			return err
		}
	}
	return nil
}

// lostParts gives what is not here of an image, for each repository that was
// pushed both the image and the part.
func lostParts(tx Tx, row ManifestRow) (lost []lostPart, err error) {
	m := &row.Manifest
	var parts []digest.Digest
	if m.Config != nil {
		parts = append(parts, m.Config.Digest)
	}
	for i := range m.Layers {
		parts = append(parts, m.Layers[i].Digest)
	}
	for i := range m.Manifests {
		parts = append(parts, m.Manifests[i].Digest)
	}
	var gone []digest.Digest
	for _, d := range parts {
		if _, err := tx.Blob(d); errors.Is(err, ErrNotFound) {
			gone = append(gone, d)
		} else if err != nil {
			return nil, err
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	var repos []oci.Repo
	err = tx.ContentOf(row.Digest, func(repo oci.Repo) error {
		repos = append(repos, repo)
		return nil
	})
	for _, repo := range repos {
		for _, d := range gone {
			content, cerr := tx.Content(repo, d)
			switch {
			case cerr == nil:
				lost = append(lost, lostPart{repo, row.Digest, d, content.Lost})
			case !errors.Is(cerr, ErrNotFound):
				err = errors.Join(err, cerr)
			}
		}
	}
	return lost, err
}

// lostManifests names manifests that were pushed and are not here: nothing else
// leads to one that no index names.
func (c *check) lostManifests(ctx context.Context) error {
	var gone []ContentRow
	err := c.s.meta.View(ctx, func(tx Tx) error {
		gone = nil
		return tx.AllContents(func(row ContentRow) error {
			if !row.Manifest {
				return ctx.Err()
			}
			_, err := tx.Blob(row.Digest)
			if errors.Is(err, ErrNotFound) && c.s.digests.pendingOf(row.Digest) == nil {
				gone, err = append(gone, row), nil
			}
			return errors.Join(ignoreAbsent(err), ctx.Err())
		})
	})
	if err != nil {
		return err
	}
	for _, row := range gone {
		if c.o.Repair && !row.Lost {
			if err := c.s.fileLost(ctx, row.Digest); err != nil {
				return err
			}
		}
		err := c.found(ctx, ProblemLost, row.Digest, nil, "%s@%s, which was pushed here, is not here: push the image again", row.Repo, row.Digest)
		if err != nil {
			return err
		}
	}
	return nil
}
