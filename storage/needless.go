package storage

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// dropNeedless removes what there is of a partial of e's blob, which is here: nobody
// goes on with it. One that somebody has open goes when it is closed. The caller has
// e locked, and the blob is filed or pending by now: so that of two, one who brings it
// and one who closes its partial, the later sees what the other did.
func (s *Store) dropNeedless(ctx context.Context, e *entry) {
	size, ok := s.space.parkedAs(e.d)
	if !ok || s.partials.isOpen(e.d) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	var err error
	if p := s.digests.pendingOf(e.d); p != nil { // its row takes the partial's along
		with := *p
		with.dropPartial = true
		s.digests.setPending(e, &with)
	} else {
		err = s.dropPartialRow(ctx, e.d)
	}
	if err == nil {
		if err = s.removePartialFile(ctx, e.d); err != nil {
			s.leftBehind(e.d, e.d.String(), size)
		}
		s.space.unpark(e.d)
	}
	if err != nil {
		s.metrics.failed(opSweep)
		s.log.WarnContext(ctx, "pieces of a blob that is whole are not removed", "digest", e.d, "err", err)
	}
}

// dropIfWhole is dropNeedless where d's blob is here.
func (s *Store) dropIfWhole(ctx context.Context, d digest.Digest) {
	ctx = context.WithoutCancel(ctx)
	if _, err := s.Stat(ctx, d); err != nil {
		return // absent, most often; else it is found when a server starts
	}
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return
	}
	defer s.digests.unlock(e)
	if _, err := s.Stat(ctx, d); err == nil {
		s.dropNeedless(ctx, e)
	}
}
