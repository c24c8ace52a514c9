package storage

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// SetAside withdraws a blob of which the caller found the bytes to be others than
// its digest says. What hosted repositories have is put into quarantine, since
// there may be no other copy; it is served again when it was pushed again. What
// was pulled is purged. It reports which of the two it did.
func (s *Store) SetAside(ctx context.Context, d digest.Digest) (quarantined bool, err error) {
	if err := s.count(ctx); err != nil {
		return false, err
	}
	err = s.meta.View(ctx, func(tx Tx) (err error) {
		quarantined, err = isHosted(tx, d)
		return err
	})
	if err != nil {
		return false, err
	}
	if !quarantined {
		_, err := s.Purge(ctx, d)
		return false, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return false, err
	}
	s.digests.setBad(e, true)
	s.metrics.failed(opCheck)
	s.digests.unlock(e)
	return true, s.quarantine(ctx, d)
}
