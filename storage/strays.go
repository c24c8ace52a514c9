package storage

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// strays are the files without a row that a crash left, or that could not be
// removed, until they are: they take room, which is counted.
type strays struct {
	mu   sync.Mutex
	m    map[stray]int64
	left map[stray]bool // those of them that could not be removed
}

type stray struct {
	d   digest.Digest
	key string // of a partial, "" for a blob
}

// findStrays goes through all files, once, before anything is written. What it
// can't look at is not counted: that must not keep a store from being used.
func (s *Store) findStrays(ctx context.Context, have map[digest.Digest]int64) error {
	found, err := s.orphans(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		s.metrics.failed(opSweep)
		s.log.ErrorContext(ctx, "what a crash left is not known, and not counted", "err", err)
	}
	st := &s.strays
	st.mu.Lock()
	defer st.mu.Unlock()
	st.m = make(map[stray]int64, len(found.orphans))
	for _, o := range found.orphans {
		st.m[stray{o.d, o.key}] = o.size
		s.space.stray(o.size)
	}
	for d, n := range found.partials { // written, and not filed before the crash
		if n > have[d]+fileSlack {
			have[d] = n
		}
	}
	for id, n := range found.uploads { // sent, and not acknowledged before the crash
		if u := s.uploads.get(id); n > u.size+fileSlack {
			u.room.adopt(n - u.size)
		}
	}
	return nil
}

// list gives those that there are.
func (st *strays) list() (found []orphan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for x, n := range st.m {
		found = append(found, orphan{d: x.d, key: x.key, size: n})
	}
	return found
}

// leftBehind counts a file of size bytes that could not be removed, though its row
// is gone: it is tried again.
func (s *Store) leftBehind(d digest.Digest, key string, size int64) {
	st := &s.strays
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.m == nil {
		st.m = map[stray]int64{}
	}
	if st.left == nil {
		st.left = map[stray]bool{}
	}
	x := stray{d, key}
	s.space.stray(size - st.m[x])
	st.m[x], st.left[x] = size, true
}

// listLeft gives those that could not be removed.
func (st *strays) listLeft() (found []orphan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for x := range st.left {
		found = append(found, orphan{d: x.d, key: x.key, size: st.m[x]})
	}
	return found
}

// strayGone stops counting one that was removed, or is a blob or partial now.
func (s *Store) strayGone(d digest.Digest, key string) {
	s.strays.mu.Lock()
	defer s.strays.mu.Unlock()
	n, ok := s.strays.m[stray{d, key}]
	if ok {
		delete(s.strays.m, stray{d, key})
		delete(s.strays.left, stray{d, key})
		s.space.stray(-n)
	}
}

// isStray reports a file that a crash left.
func (s *Store) isStray(d digest.Digest, key string) bool {
	s.strays.mu.Lock()
	defer s.strays.mu.Unlock()
	_, ok := s.strays.m[stray{d, key}]
	return ok
}
