package storage

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// evictEvery is how often the limit is looked at beside the writes that need
// room: another program may have filled the medium.
const evictEvery = 30 * time.Second

// take promises n bytes, evicting for them where it must. ErrFull.
func (s *Store) take(ctx context.Context, n int64) error {
	if ok, err := s.tryTake(ctx, n); ok || err != nil {
		return err
	}
	select {
	case s.evicting <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.evicting }()
	for flushed := false; ; {
		if ok, err := s.tryTake(ctx, n); ok || err != nil {
			return err
		}
		freed, err := s.evict(ctx, n)
		if err != nil {
			return err
		}
		if freed > 0 {
			continue
		}
		if flushed {
			return fmt.Errorf("make room for %d bytes: %w", n, ErrFull)
		}
		// What is pending can't be evicted yet. In a small store that may be all.
		if _, err := s.commitPending(ctx); err != nil {
			return fmt.Errorf("make room for %d bytes: %w: %w", n, ErrFull, err)
		}
		flushed = true
	}
}

// tryTake promises n bytes where that needs no eviction.
func (s *Store) tryTake(ctx context.Context, n int64) (bool, error) {
	if !s.space.take(n) {
		return false, nil
	}
	short, err := s.shortOfFree(ctx, 0)
	if err != nil || short > 0 {
		s.space.giveBack(n)
		return false, err
	}
	return true, nil
}

// shortOfFree is how much has to go for n more bytes to leave MinFree free.
func (s *Store) shortOfFree(ctx context.Context, n int64) (int64, error) {
	if s.minFree <= 0 {
		return 0, nil
	}
	free, _, err := s.blobs.Free(ctx)
	if err != nil || free < 0 {
		return 0, err
	}
	return max(0, s.minFree+s.space.unwritten()+n-free), nil
}

func (s *Store) evictLoop(ctx context.Context) {
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for {
		if err := s.evictExcess(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "eviction failed", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// evictExcess brings the store below its limits.
func (s *Store) evictExcess(ctx context.Context) error {
	select {
	case s.evicting <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-s.evicting }()
	_, err := s.evict(ctx, 0)
	return err
}

// evict removes what was read longest ago until n more bytes fit, if it can.
// The caller has s.evicting.
func (s *Store) evict(ctx context.Context, n int64) (freed int64, err error) {
	short, err := s.shortOfFree(ctx, n)
	if err != nil {
		return 0, err
	}
	if short > 0 {
		short += s.minFree / 20 // so that not every write has to evict
	}
	need := max(short, s.space.excess(n))
	if need == 0 {
		return 0, nil
	}
	vs, err := s.victims(ctx, need)
	if err != nil {
		return 0, fmt.Errorf("look for what to evict: %w", err)
	}
	for len(vs) > 0 {
		batch := vs[:min(len(vs), maxBatch)]
		vs = vs[len(batch):]
		bytes, err := s.evictBatch(ctx, batch)
		freed += bytes
		if err != nil {
			s.metrics.failed(opEvict)
			return freed, err
		}
	}
	s.log.DebugContext(ctx, "evicted", "bytes", freed, "wanted", need)
	return freed, nil
}

// victim is a blob, or a partial that nobody has open.
type victim struct {
	d    digest.Digest
	kind Kind // kindPartial for a partial
	size int64
	last time.Time
}

// kindPartial stands for partials among victims and in metrics.
const kindPartial Kind = "partial"

// victims is a heap with the one that was read last on top.
type victims struct {
	list []victim
	sum  int64
}

func (v *victims) Len() int           { return len(v.list) }
func (v *victims) Less(i, j int) bool { return v.list[i].last.After(v.list[j].last) }
func (v *victims) Swap(i, j int)      { v.list[i], v.list[j] = v.list[j], v.list[i] }
func (v *victims) Push(x any)         { v.list = append(v.list, x.(victim)) }
func (v *victims) Pop() any {
	x := v.list[len(v.list)-1]
	v.list = v.list[:len(v.list)-1]
	return x
}

// offer keeps x if it is among the oldest that make up need bytes.
func (v *victims) offer(x victim, need int64) {
	if v.sum >= need && !x.last.Before(v.list[0].last) {
		return
	}
	heap.Push(v, x)
	v.sum += x.size
	for v.sum-v.list[0].size >= need {
		v.sum -= heap.Pop(v).(victim).size
	}
}

// victims finds the oldest that make up need bytes. It goes through all rows:
// an order kept in memory would cost more than a scan every few gigabytes.
func (s *Store) victims(ctx context.Context, need int64) ([]victim, error) {
	var found victims
	err := s.meta.View(ctx, func(tx Tx) error {
		found = victims{}
		err := tx.Blobs(func(row BlobRow) error {
			if evictable(row.Kind) && row.Size > 0 && s.digests.idle(row.Digest) {
				last := s.accesses.last(row.Digest, row.Accessed)
				found.offer(victim{row.Digest, row.Kind, row.Size, last}, need)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		return tx.Partials(func(row PartialRow) error {
			if n := total(row.Have); n > 0 && !s.partials.isOpen(row.Digest) {
				found.offer(victim{row.Digest, kindPartial, n, row.Touched}, need)
			}
			return nil
		})
	})
	return found.list, err
}

// evictBatch removes those of vs that are still idle: rows, then bytes.
func (s *Store) evictBatch(ctx context.Context, vs []victim) (freed int64, err error) {
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
		locked[e] = v
	}
	ctx = context.WithoutCancel(ctx) // a row that is gone wants its bytes removed
	err = s.meta.Update(ctx, func(tx Tx) error {
		for e, v := range locked {
			drop := tx.DeleteBlob
			if v.kind == kindPartial {
				drop = tx.DeletePartial
			}
			if err := drop(e.d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, v := range locked {
		freed += v.size
		s.metrics.evicted(v.kind, v.size)
		if v.kind == kindPartial {
			errs = append(errs, s.removePartialFile(ctx, v.d))
			s.space.unpark(v.d)
			continue
		}
		errs = append(errs, s.blobs.Remove(ctx, v.d))
		s.space.add(v.kind, -v.size, -1) // not before: somebody waits for the room
	}
	return freed, errors.Join(errs...)
}
