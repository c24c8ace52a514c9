package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// commitDelay is how long a batch gathers: the layers of an image that
	// end at about the same time share an fsync of the rows.
	commitDelay = 100 * time.Millisecond
	// commitRetry is how long to wait when rows could not be written.
	commitRetry = 5 * time.Second
	// maxBatch bounds how many blobs are locked and synced at once.
	maxBatch = 256
)

// queue names the pending blobs, oldest first; a digest may be in it twice.
type queue struct {
	wake chan struct{} // cap 1
	busy chan struct{} // cap 1; whoever's token is in it commits

	mu sync.Mutex
	ds []digest.Digest
}

func (q *queue) add(ds ...digest.Digest) {
	q.mu.Lock()
	q.ds = append(q.ds, ds...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) take() []digest.Digest {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.ds), maxBatch)
	ds := slices.Clone(q.ds[:n])
	q.ds = slices.Delete(q.ds, 0, n)
	slices.Sort(ds)
	return slices.Compact(ds)
}

// commitLoop commits in batches until ctx ends, and then what is left.
func (s *Store) commitLoop(ctx context.Context) {
	whole := context.WithoutCancel(ctx) // a batch is not broken off
	for ctx.Err() == nil {
		select {
		case <-s.queue.wake:
		case <-ctx.Done():
		}
		sleep(ctx, commitDelay)
		if _, err := s.commitPending(whole); err != nil {
			s.log.ErrorContext(ctx, "blobs are served but not filed", "err", err)
			if errors.Is(err, ErrFull) {
				if again, _ := s.relieve(ctx, rowsBytes, s.relief.times.Load()); again {
					continue // added to the queue anew, which has been woken
				}
			}
			sleep(ctx, commitRetry)
		}
	}
	if _, err := s.commitPending(whole); err != nil {
		s.log.ErrorContext(ctx, "blobs are lost with this process", "err", err)
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// commitPending makes all that is pending durable, but for the lost that could
// not be synced: those are forgotten. When rows can't be written the blobs stay
// pending, and are served, until a later attempt.
func (s *Store) commitPending(ctx context.Context) (lost int, err error) {
	select {
	case s.queue.busy <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-s.queue.busy }()
	for {
		ds := s.queue.take()
		if len(ds) == 0 {
			return lost, nil
		}
		n, err := s.commitBatch(ctx, ds)
		lost += n
		if err != nil {
			s.queue.add(ds...)
			return lost, err
		}
	}
}

// commitBatch holds the locks of all of ds, so that none of them is purged or
// committed anew between its sync and its row.
func (s *Store) commitBatch(ctx context.Context, ds []digest.Digest) (lost int, err error) {
	start := s.now()
	var locked []*entry
	defer func() {
		for _, e := range locked {
			s.digests.unlock(e)
		}
	}()
	rows := make(map[*entry]*pending, len(ds))
	names := make([]digest.Digest, 0, len(ds))
	for _, d := range ds {
		e, err := s.digests.lock(ctx, d)
		if err != nil {
			return 0, err
		}
		locked = append(locked, e)
		if p := s.digests.pendingOf(d); p != nil { // else purged, or settled meanwhile
			rows[e] = p
			if !p.rowed { // else its bytes were synced before that row, and are the same
				names = append(names, d)
			}
		}
	}
	if lost, err = s.syncBatch(ctx, names, rows); err != nil || len(rows) == 0 {
		return lost, err
	}
	if err := s.fileBatch(ctx, rows); err != nil {
		return lost, err
	}
	s.metrics.committed(s.now().Sub(start))
	return lost, nil
}

// syncBatch syncs names, which have no row. Those that it loses it forgets, and takes
// out of rows.
func (s *Store) syncBatch(ctx context.Context, names []digest.Digest, rows map[*entry]*pending) (lost int, err error) {
	var failed *SyncError
	if err := s.blobs.Sync(ctx, names...); err == nil || !errors.As(err, &failed) {
		return 0, err
	}
	for e, p := range rows {
		cause, ok := failed.Errs[e.d]
		if !ok {
			continue
		}
		delete(rows, e)
		lost++
		s.metrics.failed(opSync)
		s.log.ErrorContext(ctx, "blob could not be synced, forgotten", "digest", e.d, "bytes", p.row.Size, "err", cause)
		if err := s.lose(ctx, e, p.row.Size); err != nil {
			s.log.ErrorContext(ctx, "blob could not be removed", "digest", e.d, "err", err)
		}
		s.uncount(p.row)
	}
	return lost, nil
}

// fileBatch writes the rows of what is synced.
func (s *Store) fileBatch(ctx context.Context, rows map[*entry]*pending) error {
	err := s.meta.Update(ctx, func(tx Tx) error { // full: see commitLoop
		for _, p := range rows {
			if err := fileRow(tx, p.row, p.dropPartial); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.metrics.failed(opRow)
		return fmt.Errorf("file %d blobs: %w", len(rows), err)
	}
	for e := range rows {
		s.digests.setPending(e, nil)
	}
	return nil
}
