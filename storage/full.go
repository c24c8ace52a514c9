package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// maxRelief is how often one write is tried again.
	maxRelief = 3
	// reliefBytes is the most that is evicted at once beyond what is asked for.
	reliefBytes = 256 << 20
	// reliefPause is how long one who must not wait for an eviction gives it.
	reliefPause = 50 * time.Millisecond
)

// relief counts how often something was evicted because the medium had refused
// what was written: who was refused before that only tries again.
type relief struct{ times atomic.Int64 }

// unlessFull calls write, which puts up to n bytes on the medium. Where that
// says that it is full, though the account has room (a limit that is higher than
// the medium, a quota, no more inodes), some of what was read longest ago is
// evicted, and write is called again; its last error is returned. The caller has
// no digest locked, and not s.evicting.
func (s *Store) unlessFull(ctx context.Context, n int64, write func() error) error {
	return s.retryFull(write, func(seen int64) (bool, error) { return s.relieve(ctx, n, seen) })
}

// unlessFullLocked is unlessFull for one who has a digest locked.
func (s *Store) unlessFullLocked(ctx context.Context, n int64, write func() error) error {
	return s.retryFull(write, func(seen int64) (bool, error) { return s.relieveLocked(ctx, n, seen) })
}

func (s *Store) retryFull(write func() error, relieve func(seen int64) (bool, error)) error {
	for tries := 0; ; tries++ {
		seen := s.relief.times.Load()
		err := write()
		if !errors.Is(err, ErrFull) || tries == maxRelief {
			return err
		}
		if again, rerr := relieve(seen); !again || rerr != nil {
			return errors.Join(err, rerr)
		}
	}
}

// relieve evicts for n bytes that the medium has refused to one who had seen so
// many reliefs. It reports whether to try again makes sense.
func (s *Store) relieve(ctx context.Context, n, seen int64) (bool, error) {
	asked := s.barren.begun.Load()
	select {
	case s.evicting <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-s.evicting }()
	if s.barren.stands(asked, 0) {
		return s.relief.times.Load() != seen, nil
	}
	begin := time.Now()
	scan := s.barren.begun.Add(1)
	again, err := s.relieveNow(ctx, n, seen)
	if again || err != nil {
		return again, err
	}
	if _, err = s.commitPending(ctx); err == nil { // what is pending can't be evicted yet
		again, err = s.relieveNow(ctx, n, seen)
	}
	if !again && err == nil {
		s.barren.set(scan, 0, time.Since(begin))
	}
	return again, err
}

// relieveLocked is relieve for one who has a digest locked: who evicts may wait
// for it, to commit what is pending, and must not be waited for.
func (s *Store) relieveLocked(ctx context.Context, n, seen int64) (bool, error) {
	select {
	case s.evicting <- struct{}{}:
		defer func() { <-s.evicting }()
		return s.relieveNow(ctx, n, seen)
	default:
		sleep(ctx, reliefPause)
		return ctx.Err() == nil, nil
	}
}

// relieveNow is relieve for who has s.evicting.
func (s *Store) relieveNow(ctx context.Context, n, seen int64) (bool, error) {
	if s.relief.times.Load() != seen {
		return true, nil
	}
	freed, err := s.evictBytes(ctx, max(plus(n, fileSlack), min(s.space.evictable()/20, reliefBytes)), 0, false)
	if err != nil {
		return false, fmt.Errorf("evict for a medium that is full: %w", err)
	}
	if freed <= 0 {
		return false, nil
	}
	s.relief.times.Add(1)
	s.metrics.relieved.Inc()
	s.log.DebugContext(ctx, "evicted because the medium is full", "bytes", freed)
	return true, nil
}

// update writes rows, and evicts where there is no room for them. The caller may
// have a digest locked.
func (s *Store) update(ctx context.Context, fn func(Tx) error) error {
	return s.unlessFullLocked(ctx, rowsBytes, func() error { return s.meta.Update(ctx, fn) })
}

// rowsBytes is about what a transaction may add to the file of rows.
const rowsBytes = 256 << 10
