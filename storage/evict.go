package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// take promises n bytes, evicting for them where it must. ErrFull.
func (s *Store) take(ctx context.Context, n int64) error {
	if ok, err := s.tryTake(ctx, n); ok || err != nil {
		return err
	}
	asked := s.barren.begun.Load()
	for {
		freed := s.space.whenFreed()
		if ok, err := s.tryTake(ctx, n); ok || err != nil {
			return err
		}
		select {
		case s.evicting <- struct{}{}:
			defer func() { <-s.evicting }()
			return s.takeEvicting(ctx, n, asked)
		case <-freed: // by who evicts ahead
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// takeEvicting is take for who has s.evicting, and asked when so many searches had
// begun.
func (s *Store) takeEvicting(ctx context.Context, n, asked int64) error {
	for flushed := false; ; {
		if ok, err := s.tryTake(ctx, n); ok || err != nil {
			return err
		}
		never, err := s.never(ctx, n)
		if err != nil {
			return err
		}
		if never || s.barren.stands(asked, n) {
			return fmt.Errorf("make room for %d bytes: %w", n, ErrFull)
		}
		begin := time.Now()
		scan := s.barren.begun.Add(1)
		freed, err := s.evict(ctx, n)
		if errors.Is(err, errHeld) {
			s.barren.set(scan, n, time.Since(begin))
			return fmt.Errorf("make room for %d bytes: %w", n, err)
		}
		if err != nil {
			return err
		}
		if freed > 0 {
			continue
		}
		if flushed {
			s.barren.set(scan, 0, time.Since(begin))
			return fmt.Errorf("make room for %d bytes: %w", n, ErrFull)
		}
		// What is pending can't be evicted yet. In a small store that may be all.
		if _, err := s.commitPending(ctx); err != nil {
			return fmt.Errorf("make room for %d bytes: %w: %w", n, ErrFull, err)
		}
		flushed = true
	}
}

// errHeld is an ErrFull for pins' sake: nothing was evicted in vain.
var errHeld = fmt.Errorf("%w: what pins keep leaves no room for it", ErrFull)

// barren remembers that there was nothing to evict, or too little, so that a store
// that is full of what may not go does not spend its time on looking for it.
type barren struct {
	begun atomic.Int64 // searches so far

	scan  int64     // the one that was in vain; for who has Store.evicting
	least int64     // who wants less than this may find something
	until time.Time // and for how long that stands for everybody
}

// set notes that search number scan, which took so long, was in vain for whoever
// wants least bytes or more. That stands for those who asked before the search began,
// and for everybody as long as it took: at most half of the time goes into searching.
func (b *barren) set(scan, least int64, took time.Duration) {
	b.scan, b.least, b.until = scan, least, time.Now().Add(took)
}

// stands reports whether what can be evicted makes no room for n bytes, for one who
// asked when so many searches had begun; n is 0 for as little as there is.
func (b *barren) stands(asked, n int64) bool {
	return n >= b.least && (b.scan > asked || time.Now().Before(b.until))
}

// tryTake promises n bytes where that needs no eviction.
func (s *Store) tryTake(ctx context.Context, n int64) (bool, error) {
	if !s.space.take(n) {
		return false, nil
	}
	near := s.margin() / 2
	short, err := s.shortOfFree(ctx, near)
	if err != nil || short > near {
		s.space.giveBack(n)
		return false, err
	}
	if short > 0 || s.space.ahead() > 0 {
		s.evictSoon()
	}
	return true, nil
}

// never reports whether no eviction makes room for n bytes, as far as that can
// be told without looking for what could go. The store is not emptied for them.
func (s *Store) never(ctx context.Context, n int64) (bool, error) {
	short, err := s.shortOfFree(ctx, n)
	return err == nil && s.space.never(n, short), err
}

// shortOfFree is how much has to go for n more bytes to leave MinFree free.
func (s *Store) shortOfFree(ctx context.Context, n int64) (int64, error) {
	if s.minFree <= 0 {
		return 0, nil
	}
	unwritten := s.space.unwritten() // before: what is written meanwhile is in both
	free, _, err := s.blobs.Free(ctx)
	if err != nil || free < 0 {
		return 0, err
	}
	return max(0, plus(plus(s.minFree, unwritten), n)-free), nil
}

// evict removes what was read longest ago until n more bytes fit, if it can. errHeld
// where they would not fit without all that may go. The caller has s.evicting.
func (s *Store) evict(ctx context.Context, n int64) (freed int64, err error) {
	short, err := s.shortOfFree(ctx, n)
	if err != nil {
		return 0, err
	}
	return s.free(ctx, max(short, s.space.excess(n)), n)
}

// free removes need bytes, if it can, garbage first; for want see evictBytes. The caller
// has s.evicting.
func (s *Store) free(ctx context.Context, need, want int64) (freed int64, err error) {
	if need == 0 {
		return 0, nil
	}
	if before := s.Usage().Stray; before > 0 { // garbage goes first
		err := s.sweepAll(ctx, s.strays.list())
		if freed := before - s.Usage().Stray; freed > 0 {
			return freed, nil
		}
		if ctx.Err() != nil {
			return 0, err
		}
		if err != nil {
			s.metrics.failed(opSweep)
			s.log.WarnContext(ctx, "files without a row can't be removed, others go", "err", err)
		}
	}
	freed, err = s.evictBytes(ctx, need, want, true)
	if err != nil || freed > 0 || s.digests.pendingOnce() == 0 {
		return freed, err
	}
	// A scan that is faster than the disk makes room for itself, too.
	if _, err := s.commitPending(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "what came last can't be made durable, others go", "err", err)
	}
	return s.evictBytes(ctx, need, want, false)
}

// evictBytes removes what was read longest ago, need bytes in all if there is so
// much: nothing, and errHeld, where want bytes, 0 for nobody's, would have no room
// without all that may go. For patient see choose. The caller has s.evicting.
func (s *Store) evictBytes(ctx context.Context, need, want int64, patient bool) (freed int64, err error) {
	found, err := s.candidates(ctx, need)
	if err != nil {
		return 0, fmt.Errorf("look for what to evict: %w", err)
	}
	s.space.setHeld(found.held)
	if want > 0 && !s.mayTake(ctx, want) {
		return 0, errHeld
	}
	if s.aheadNow { // what pins keep, which is known now, is not to have room made for it
		now, err := s.aheadNeed(ctx)
		if err != nil {
			return 0, err
		}
		need = min(need, now)
	}
	vs := found.choose(need, patient)
	plain, layers, err := s.divide(ctx, vs)
	if err != nil {
		return 0, fmt.Errorf("look for what was read of them: %w", err)
	}
	tell := func() {
		if s.aheadNow {
			s.space.tellFreed()
		}
	}
	for len(plain) > 0 && err == nil && ctx.Err() == nil {
		batch := plain[:min(len(plain), maxBatch)]
		plain = plain[len(batch):]
		var bytes int64
		bytes, err = s.evictBatch(ctx, batch, tell)
		freed += bytes
	}
	for i := 0; i < len(layers) && err == nil && ctx.Err() == nil; i++ {
		var bytes int64
		bytes, err = s.evictReduced(ctx, &layers[i])
		freed += bytes
		tell() // not before what is kept of it has its room
	}
	if err != nil {
		s.metrics.failed(opEvict)
		return freed, err
	}
	if ctx.Err() != nil { // the rest stays, with what was read of it
		return freed, context.Cause(ctx)
	}
	s.log.DebugContext(ctx, "evicted", "bytes", freed, "wanted", need)
	return freed, nil
}

// evictBatch removes those of vs that may go still and that nobody uses: rows,
// then bytes. They were chosen from rows that may be others by now. each is called
// when one has gone. A file that can't be removed keeps no other: it counts on, and
// is tried again.
func (s *Store) evictBatch(ctx context.Context, vs []victim, each func()) (freed int64, err error) {
	locked := make(map[*entry]victim, len(vs))
	defer func() {
		for e := range locked {
			s.digests.unlock(e)
		}
	}()
	for _, v := range vs {
		e := s.digests.lockIdle(v.d)
		if e == nil {
			continue
		}
		if v.kind == kindPartial && s.partials.isOpen(v.d) {
			s.digests.unlock(e)
			continue
		}
		v.e = e
		locked[e] = v
	}
	ctx = context.WithoutCancel(ctx) // a row that is gone wants its bytes removed
	var gone []victim
	err = s.meta.Update(ctx, func(tx Tx) error {
		gone = nil
		for _, v := range locked {
			v, goes, err := s.evictRow(tx, v)
			if err != nil {
				return err
			}
			if goes {
				gone = append(gone, v)
			}
		}
		return nil
	})
	if err != nil {
		s.metrics.failed(opRow)
		var unknown error
		if gone, unknown = s.evictedAfterAll(ctx, gone); unknown != nil {
			return 0, errors.Join(err, unknown)
		}
	}
	for _, v := range gone {
		if ferr := s.evictFile(ctx, v); ferr != nil {
			s.metrics.failed(opEvict)
			s.log.ErrorContext(ctx, "what was evicted can't be removed, others go", "digest", v.d, "bytes", v.size, "err", ferr)
		} else {
			freed += v.size
			s.metrics.evicted(v.kind, v.size)
		}
		each()
	}
	return freed, err
}

// evictFile removes what v, of which the row is gone, has on the medium. What can't
// be removed counts on.
func (s *Store) evictFile(ctx context.Context, v victim) (err error) {
	if v.kind == kindPartial {
		if err = s.removePartialFile(ctx, v.d); err != nil {
			n, _ := s.space.parkedAs(v.d)
			s.leftBehind(v.d, v.d.String(), n)
		}
		s.space.unpark(v.d) // not before, either
	} else {
		err = s.unlink(ctx, v.e, v.size) // somebody may have opened it meanwhile
		s.digests.setBad(v.e, false)     // not before: see OpenRow
		s.space.add(v.kind, -v.size, -1) // not before: somebody waits for the room
		if !v.proven {
			s.ghosts.add(v.d, v.created)
		}
	}
	return err
}

// evictRow deletes the row of v, if it may go still: since it was chosen it may
// have been pushed to a hosted repository, mounted there, or pinned. It gives v
// as its row has it.
func (s *Store) evictRow(tx Tx, v victim) (_ victim, goes bool, err error) {
	if v.kind == kindPartial {
		row, err := tx.Partial(v.d)
		if err != nil {
			return v, false, ignoreAbsent(err)
		}
		v.size = oci.Extents(row.Have).Bytes()
	} else {
		row, err := tx.Blob(v.d)
		if err != nil || !evictable(row.Kind) {
			return v, false, ignoreAbsent(err)
		}
		v.kind, v.of, v.size = row.Kind, row.Of, row.Size
	}
	if held, err := holds(tx, v, tx.Pinned); held || err != nil {
		return v, false, err
	}
	if v.kind == kindPartial {
		return v, true, tx.DeletePartial(v.d)
	}
	if s.evicted != nil && v.kind != KindSpan && v.kind != KindHot {
		row, err := tx.Blob(v.d)
		if err == nil {
			err = s.evicted(tx, row)
		}
		if err != nil {
			return v, false, err
		}
	}
	return v, true, tx.DeleteBlob(v.d)
}

// evictedAfterAll gives those of which the rows are gone, though to delete them
// failed: what failed may have been stored all the same.
func (s *Store) evictedAfterAll(ctx context.Context, list []victim) (gone []victim, err error) {
	err = s.meta.View(ctx, func(tx Tx) error {
		gone = nil
		for _, v := range list {
			var err error
			if v.kind == kindPartial {
				_, err = tx.Partial(v.d)
			} else {
				_, err = tx.Blob(v.d)
			}
			switch {
			case errors.Is(err, ErrNotFound):
				gone = append(gone, v)
			case err != nil:
				return err
			}
		}
		return nil
	})
	return gone, err
}
