package storage

import (
	"context"
	"time"
)

// evictEvery is how often the limits are looked at beside the writes that come
// near them: another program may have filled the medium.
const evictEvery = 30 * time.Second

// evictSoon has evictLoop look at the limits.
func (s *Store) evictSoon() {
	select {
	case s.soon <- struct{}{}:
	default:
	}
}

// evictLoop keeps some room free, so that who needs it finds it there.
func (s *Store) evictLoop(ctx context.Context) {
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.countQuarantined(ctx)
		need, freed, err := s.evictAhead(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "eviction failed", "err", err)
		}
		soon := s.soon
		switch {
		case err != nil, need > 0 && freed <= 0:
			soon = nil // not for each write that comes meanwhile
		case need > 0:
			continue
		}
		select {
		case <-tick.C:
		case <-soon:
		case <-ctx.Done():
		}
	}
}

// evictAhead brings the store below its limits, and some below them when it is
// near: need is by how much, as far as nothing has gone. Whoever needs room
// meanwhile goes on as soon as there is enough for him.
func (s *Store) evictAhead(ctx context.Context) (need, freed int64, err error) {
	select {
	case s.evicting <- struct{}{}:
	case <-ctx.Done():
		return 0, 0, nil
	}
	s.aheadNow = true
	defer func() {
		s.aheadNow = false
		<-s.evicting
	}()
	if need, err = s.aheadNeed(ctx); err != nil {
		return 0, 0, err
	}
	if freed, err = s.free(ctx, need, 0); err == nil && freed <= 0 && need > 0 {
		need, err = s.aheadNeed(ctx) // what pins keep is known now
	}
	return need, freed, err
}

// aheadNeed is how much is to go before anybody needs its room.
func (s *Store) aheadNeed(ctx context.Context) (int64, error) {
	margin := s.margin()
	short, err := s.shortOfFree(ctx, margin/2)
	if err == nil && short > 0 {
		short, err = s.shortOfFree(ctx, margin)
	}
	return max(short, s.space.ahead()), err
}

// margin is what is to be free beyond minFree, once half of that is taken: a
// twentieth of it, or of what may go where that is less.
func (s *Store) margin() int64 { return min(s.minFree, s.space.evictable()) / 20 }
