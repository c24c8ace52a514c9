package storage

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// accessEvery is how often reads are filed, and how exact they are: a blob
	// that was read a moment ago is not noted again.
	accessEvery = time.Minute
	// accessMany files sooner. It bounds the memory, and a transaction.
	accessMany = 4096
)

// accesses notes in memory what was read, so that a read costs no write.
type accesses struct {
	full chan struct{} // cap 1

	mu sync.Mutex
	at map[digest.Digest]time.Time
}

// note remembers that d, last filed as read at filed, was read at now.
func (a *accesses) note(d digest.Digest, filed, now time.Time) {
	if now.Sub(filed) < accessEvery {
		return
	}
	a.mu.Lock()
	if a.at == nil {
		a.at = map[digest.Digest]time.Time{}
	}
	a.at[d] = now
	full := len(a.at) >= accessMany
	a.mu.Unlock()
	if full {
		a.wake()
	}
}

// wake has what was noted filed soon.
func (a *accesses) wake() {
	select {
	case a.full <- struct{}{}:
	default:
	}
}

// last is when d, filed as read at filed, was read last.
func (a *accesses) last(d digest.Digest, filed time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.at[d]; ok && t.After(filed) {
		return t
	}
	return filed
}

// all gives what was noted.
func (a *accesses) all() map[digest.Digest]time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.at)
}

// drop forgets what is filed, unless there is newer.
func (a *accesses) drop(filed map[digest.Digest]time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.at, func(d digest.Digest, at time.Time) bool { return at.Equal(filed[d]) })
}

func (s *Store) accessLoop(ctx context.Context) {
	tick := time.NewTicker(accessEvery)
	defer tick.Stop()
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-s.accesses.full:
		case <-ctx.Done():
		}
		if err := s.fileAccesses(whole); err != nil {
			s.log.WarnContext(ctx, "access times not filed", "err", err)
			sleep(ctx, commitRetry)
		}
	}
}

// fileAccesses writes the noted reads to the rows.
func (s *Store) fileAccesses(ctx context.Context) error {
	return errors.Join(s.fileTimes(ctx), s.fileHeat(ctx), s.filePulls(ctx))
}

// fileTimes keeps the notes until the rows say the same: whoever asks for what was
// used meanwhile finds it in the one or the other.
func (s *Store) fileTimes(ctx context.Context) error {
	at := s.accesses.all()
	if len(at) == 0 {
		return nil
	}
	if err := s.meta.Update(ctx, func(tx Tx) error { return tx.Touch(at) }); err != nil {
		s.metrics.failed(opAccess)
		return err
	}
	s.accesses.drop(at)
	return nil
}
