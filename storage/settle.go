package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// settlement is how a blob comes to its name and row.
type settlement struct {
	dur Durability
	// bytes gives the bytes their name; there says that the blob has it.
	bytes       func(there bool) error
	done        func()         // the bytes are counted as a blob now; may be nil
	more        func(Tx) error // runs with the row, when dur is Durable; may be nil
	dropPartial bool
	// idle waits for nobody who uses the blob: ErrBusy. For one who may have other
	// digests locked.
	idle bool
}

// presence is how far a blob is.
type presence int

const (
	absent    presence = iota // bytes without a row may be there; they count for nothing
	unsettled                 // pending
	settled                   // the row is there, and so are the bytes
)

// settle is the one way in: bytes, then sync, then the row.
func (s *Store) settle(ctx context.Context, row BlobRow, st settlement) error {
	if rank(row.Kind) == 0 {
		return fmt.Errorf("commit blob %s: unknown kind %q", row.Digest, row.Kind)
	}
	e, err := s.lockFor(ctx, row.Digest, st.idle)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	if st.dur == Cached {
		if err := s.notKeptOut(ctx, row); err != nil {
			return fmt.Errorf("commit blob %s: %w", row.Digest, err)
		}
	}
	have, was, err := s.look(ctx, e)
	if err != nil {
		return err
	}
	lost := false
	if was == absent { // what a crash left is not to be taken for the blob
		if lost, err = s.clearName(ctx, row.Digest); err != nil {
			return err
		}
	}
	if err := st.bytes(was != absent); err != nil {
		return err
	}
	if was == absent { // what had the name before, and could not be put aside, was bad
		s.digests.setBad(e, false)
	}
	if row = s.stamp(row); was != absent {
		row = merge(have, row)
	} else if lost { // however it comes: what is evicted would be lost again
		row = merge(row, BlobRow{Kind: KindHosted})
	}
	if st.dur == Durable {
		if err := s.settleNow(ctx, e, row, was, st); err != nil {
			if was == unsettled && s.digests.pendingOf(e.d) == nil {
				s.uncount(have) // it was lost
			}
			return err
		}
	} else if was != settled || st.dropPartial || row.Kind != have.Kind {
		s.later(e, row, was, st.dropPartial)
	}
	if was != absent {
		s.uncount(have)
	}
	s.space.add(row.Kind, row.Size, 1)
	if was == absent {
		s.strayGone(row.Digest, "") // it is the blob's by now
	}
	if st.done != nil {
		st.done()
	}
	s.dropNeedless(ctx, e)
	return nil
}

// notKeptOut is ErrBlocked for what an operator keeps out, and for spans of a layer
// that is: they may have been on their way.
func (s *Store) notKeptOut(ctx context.Context, row BlobRow) error {
	return s.meta.View(ctx, func(tx Tx) error {
		err := NotBlocked(tx, row.Digest)
		if err != nil || row.Of == "" || row.Kind != KindSpan && row.Kind != KindHot {
			return err
		}
		return NotBlocked(tx, row.Of)
	})
}

// clearName removes the file of a blob without a row. What a hosted repository has
// may have no other copy, and what comes in its place is yet to be compared: there
// the file stays, if it is right. hosted says that a hosted repository has the blob.
func (s *Store) clearName(ctx context.Context, d digest.Digest) (hosted bool, err error) {
	if hosted, err = s.hostedBlob(ctx, d); err != nil {
		return false, err
	}
	if hosted {
		if right, err := s.isRight(ctx, d); right || err != nil {
			return true, err
		}
	}
	return hosted, s.removeBytes(ctx, d)
}

// isRight reports whether the file of d is there and holds what its name says.
func (s *Store) isRight(ctx context.Context, d digest.Digest) (bool, error) {
	err := s.compare(ctx, d)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDigest) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) lockFor(ctx context.Context, d digest.Digest, idle bool) (*entry, error) {
	if !idle {
		return s.digests.lock(ctx, d)
	}
	if e := s.digests.lockIdle(d); e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("commit blob %s: %w", d, ErrBusy)
}

// look finds out how far e's blob is; the caller has it locked.
func (s *Store) look(ctx context.Context, e *entry) (BlobRow, presence, error) {
	b, row, err := s.openRow(ctx, e.d)
	switch {
	case errors.Is(err, errDamaged):
		if _, err := s.removeLocked(ctx, e); err != nil {
			return row, absent, err
		}
		return row, absent, nil
	case errors.Is(err, ErrNotFound):
		return row, absent, nil
	case err != nil:
		return row, absent, err
	}
	if err := b.Close(); err != nil {
		return row, absent, err
	}
	if s.digests.pendingOf(e.d) != nil {
		return row, unsettled, nil
	}
	return row, settled, nil
}

// stamp sets the times that the caller left open.
func (s *Store) stamp(row BlobRow) BlobRow {
	now := s.now().UTC().Round(0)
	if row.Created.IsZero() {
		row.Created = s.ghosts.created(row.Digest, now)
	}
	if row.Accessed.IsZero() {
		row.Accessed = now
	}
	return row
}

// later leaves sync and row to the background commit.
func (s *Store) later(e *entry, row BlobRow, was presence, dropPartial bool) {
	p := &pending{row: row, rowed: was == settled, dropPartial: dropPartial}
	if before := s.digests.pendingOf(e.d); before != nil {
		p.rowed = before.rowed
		p.dropPartial = p.dropPartial || before.dropPartial
	}
	s.digests.setPending(e, p)
	s.queue.add(e.d)
}

// settleNow makes e's blob durable and writes its row. When it can't, a blob
// that was not there before is gone again.
func (s *Store) settleNow(ctx context.Context, e *entry, row BlobRow, was presence, st settlement) error {
	start := s.now()
	ctx = context.WithoutCancel(ctx) // half a commit would help nobody
	dropPartial, synced := st.dropPartial, was == settled
	if p := s.digests.pendingOf(e.d); p != nil {
		dropPartial = dropPartial || p.dropPartial
		synced = p.rowed // before that row
	}
	if !synced {
		if err := s.blobs.Sync(ctx, e.d); err != nil {
			s.metrics.failed(opSync)
			return errors.Join(err, s.lose(ctx, e, row.Size))
		}
	}
	err := s.update(ctx, func(tx Tx) error {
		if err := fileRow(tx, row, dropPartial); err != nil || st.more == nil {
			return err
		}
		return st.more(tx)
	})
	switch {
	case err == nil:
		s.digests.setPending(e, nil)
		s.metrics.committed(s.now().Sub(start))
	case was == absent:
		err = errors.Join(err, s.lose(ctx, e, row.Size))
	}
	return err
}

// fileRow writes the row of a blob that is synced.
func fileRow(tx Tx, row BlobRow, dropPartial bool) error {
	if err := putBlob(tx, row); err != nil || !dropPartial {
		return err
	}
	return tx.DeletePartial(row.Digest)
}
