package storage

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Host makes the stored blob d one that a hosted repository has, which is never
// evicted, and durable where it is not yet. more runs in the transaction that
// says so; what holds of Update's fn holds of it. ErrNotFound.
func (s *Store) Host(ctx context.Context, d digest.Digest, more func(Tx) error) error {
	if err := s.count(ctx); err != nil {
		return err
	}
	return s.settle(ctx, BlobRow{Digest: d, Kind: KindHosted}, settlement{
		dur: Durable,
		bytes: func(there bool) error {
			if !there {
				return fmt.Errorf("blob %s: %w", d, ErrNotFound)
			}
			return nil
		},
		more: more,
	})
}

// isHosted reports whether a hosted repository has d.
func isHosted(tx Tx, d digest.Digest) (bool, error) {
	return found(tx.ContentOf(d, func(oci.Repo) error { return errOne }))
}

func (s *Store) hostedBlob(ctx context.Context, d digest.Digest) (hosted bool, err error) {
	err = s.meta.View(ctx, func(tx Tx) (err error) {
		hosted, err = isHosted(tx, d)
		return err
	})
	return hosted, err
}
