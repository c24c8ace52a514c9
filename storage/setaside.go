package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// ErrRight is why a blob is not set aside.
var ErrRight = errors.New("its bytes are what its name says")

// SetAside withdraws a blob of which the caller found the bytes to be others than
// its digest says. What hosted repositories have is put into quarantine, since
// there may be no other copy; it is served again when it was pushed again. What
// was pulled is purged. It reports which of the two it did. The bytes are read again
// where nobody changes them: ErrRight where right ones have come since.
func (s *Store) SetAside(ctx context.Context, d digest.Digest) (quarantined bool, err error) {
	if err := s.count(ctx); err != nil {
		return false, err
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return false, err
	}
	defer s.digests.unlock(e)
	wrong, err := s.stillWrong(ctx, d)
	if err == nil && wrong == nil {
		err = ErrRight
	}
	if err != nil {
		return false, fmt.Errorf("set aside %s: %w", d, err)
	}
	if quarantined, err = s.hostedBlob(ctx, d); err != nil {
		return false, err
	}
	if !quarantined {
		_, err := s.purgeLocked(ctx, e)
		return false, err
	}
	s.digests.setBad(e, true)
	s.metrics.failed(opCheck)
	return true, s.quarantineLocked(ctx, e)
}
