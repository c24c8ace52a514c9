package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Pin keeps what the manifest or index root leads to, and what it will lead to
// when manifests that it names arrive, and the same of what is attached to it.
// reference is the canonical name to show, and to unpin it by; a pin of the same
// name is replaced, and what it kept of the same root beside it stays. ErrNotFound
// when root is not known here. What is not stored is not fetched.
func (s *Store) Pin(ctx context.Context, reference string, root digest.Digest, attached ...digest.Digest) (row PinRow, err error) {
	now := s.now().UTC().Round(0)
	err = s.meta.Update(ctx, func(tx Tx) error {
		if _, err := tx.Manifest(root); err != nil {
			return err
		}
		row = PinRow{Reference: reference, Root: root, Created: now}
		old, err := tx.Pin(reference)
		switch {
		case err == nil && old.Root == root:
			row.Attached = old.Attached
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		for _, d := range attached {
			if !slices.Contains(row.Attached, d) {
				row.Attached = append(row.Attached, d)
			}
		}
		if row.Holds, err = row.held(tx); err != nil {
			return err
		}
		return tx.PutPin(row)
	})
	if err != nil {
		return PinRow{}, fmt.Errorf("pin %s: %w", reference, err)
	}
	return row, nil
}

// Unpin lets go of what was pinned as reference, whether or not that can be read.
// ErrNotFound.
func (s *Store) Unpin(ctx context.Context, reference string) error {
	err := s.meta.Update(ctx, func(tx Tx) error {
		if _, err := tx.Pin(reference); err != nil && !errors.Is(err, ErrUnreadable) {
			return err
		}
		return tx.DeletePin(reference)
	})
	if err != nil {
		return fmt.Errorf("unpin %s: %w", reference, err)
	}
	s.space.setHeld(0) // until the next search, which finds how much other pins keep
	return nil
}

// held is what the pin keeps, by the manifests that are known now.
func (p *PinRow) held(tx ManifestTx) ([]digest.Digest, error) {
	return Below(tx, append([]digest.Digest{p.Root}, p.Attached...)...)
}

// Below gives roots and every digest that is below them, each once: the manifests
// of an index, their configs and layers, as far as the manifests are known here.
func Below(tx ManifestTx, roots ...digest.Digest) ([]digest.Digest, error) {
	seen := map[digest.Digest]bool{}
	var all []digest.Digest
	add := func(d digest.Digest) {
		if !seen[d] {
			seen[d] = true
			all = append(all, d)
		}
	}
	for _, d := range roots {
		add(d)
	}
	for i := 0; i < len(all); i++ {
		row, err := tx.Manifest(all[i])
		if errors.Is(err, ErrNotFound) {
			continue // a blob, or a manifest that never came by
		}
		if err != nil {
			return nil, err
		}
		for _, d := range Named(&row.Manifest) {
			add(d)
		}
	}
	return all, nil
}

// Named gives what a manifest names, but for its subject, which is not below it.
func Named(m *oci.Manifest) []digest.Digest {
	ds := make([]digest.Digest, 0, len(m.Manifests)+1+len(m.Layers))
	for i := range m.Manifests {
		ds = append(ds, m.Manifests[i].Digest)
	}
	if m.Config != nil {
		ds = append(ds, m.Config.Digest)
	}
	for i := range m.Layers {
		ds = append(ds, m.Layers[i].Digest)
	}
	return ds
}

// extendPins has the pins that hold the manifest d hold what it names as well.
func extendPins(tx Tx, d digest.Digest) error {
	var pins []PinRow
	err := tx.PinsOf(d, func(row PinRow) error {
		pins = append(pins, row)
		return nil
	})
	if err != nil {
		return err
	}
	for _, row := range pins {
		if row.Root == "" {
			continue // it can't be read, and stays as it is
		}
		held, err := row.held(tx)
		if err != nil {
			return err
		}
		if slices.Equal(held, row.Holds) {
			continue
		}
		row.Holds = held
		if err := tx.PutPin(row); err != nil {
			return err
		}
	}
	return nil
}
