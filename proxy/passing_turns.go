package proxy

import (
	"errors"
	"sync"
	"time"
)

const (
	// passWait is how long one request that sends to an upstream waits, in all, for
	// the room that others take which are on their way there: these end by themselves.
	passWait = 45 * time.Second
	// turnTime is how long an upload may keep others from the second half of the room.
	turnTime = 5 * time.Second
)

// turns are whose turn it is at each upstream. Uploads to it share the first half of
// the room that they may take; what is beyond that one of them takes at a time. So of
// many that begin at once, and whose sizes nobody has said, there is always one that
// comes to its end, and leaves its room to the others.
type turns struct {
	mu sync.Mutex
	m  map[string]turn
}

type turn struct {
	id    string // of the upload
	until time.Time
}

// take reports whether it is the turn of the upload id, or nobody's until now.
func (ts *turns) take(upstream, id string, now time.Time) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.m[upstream]
	if ok && t.id != id && now.Before(t.until) {
		return false
	}
	if ts.m == nil {
		ts.m = map[string]turn{}
	}
	if t.id != id || !now.Before(t.until) {
		ts.m[upstream] = turn{id, now.Add(turnTime)}
	}
	return true
}

// leave ends the turn of the upload id, if it has it.
func (ts *turns) leave(upstream, id string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.m[upstream].id == id {
		delete(ts.m, upstream)
	}
}

// goesOn reports whether the upload may take what a says, or else whether it is to
// wait for that. What it waits for is bounded by waits alone: who has waited long
// enough needs no turn.
func (s *push) goesOn(a account, now time.Time) (ok, wait bool) {
	quota := s.quota()
	fits := a.fits(quota)
	if s.pusher == nil || !a.alone(quota) {
		return fits, false
	}
	wait = s.waits.IsZero() || now.Before(s.waits)
	if fits && wait && a.own > quota/2-a.open {
		return s.p.turns.take(s.repo.Upstream, s.u.ID(), now), true
	}
	return fits, wait
}

// errCameBack is a request whose client goes on with the upload by another one.
var errCameBack = errors.New("its client goes on by another request")

// waitBegins notes that the request waits for others, and for how long it may. The
// error is that nobody waits for it any more.
func (s *push) waitBegins(now time.Time) error {
	if s.waits.IsZero() {
		s.waits = now.Add(s.p.passWait)
	}
	if s.from != nil && s.from.waits(now) {
		return clientError{errCameBack}
	}
	return nil
}

// waits notes that nothing is read from the client for now. It reports whether
// another request wants the upload for longer than that has been quiet.
func (s *sender) waits(now time.Time) (cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = now
	}
	return s.cut
}
