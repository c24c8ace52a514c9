package storage

import (
	"context"
	"math"
	"sync"

	"github.com/opencontainers/go-digest"
)

// tally counts blobs of one kind.
type tally struct{ bytes, blobs int64 }

// space is the account of bytes. What is stored, what lies in partials that
// nobody has open, and what was promised to writers together stay below limit.
type space struct {
	limit int64 // 0: none

	mu       sync.Mutex
	kinds    map[Kind]tally
	parked   map[digest.Digest]int64 // in partials that nobody has open
	idle     int64                   // all of parked
	promised int64                   // to writers and open partials
	written  int64                   // of promised, on the medium already
	open     int64                   // of promised, used in open partials
	arriving int64                   // of promised, to open partials
	strays   int64                   // in files that a crash left
	removed  int64                   // in files without a name, which are read still
	aside    int64                   // in quarantine
	held     int64                   // of kinds and idle, by pins, as the last search for what may go found
	freed    chan struct{}           // see whenFreed; nil: nobody waits
}

func (a *space) load(kinds map[Kind]tally, parked map[digest.Digest]int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kinds, a.parked, a.idle = kinds, parked, 0
	for _, n := range parked {
		a.idle += n
	}
}

func (a *space) usage() Usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := Usage{
		Stray: a.strays, Removed: a.removed, Quarantined: a.aside,
		Bytes: make(map[Kind]int64, len(a.kinds)), Blobs: make(map[Kind]int64, len(a.kinds)),
		Partial: a.open + a.idle, Limit: a.limit,
	}
	for k, t := range a.kinds {
		u.Bytes[k], u.Blobs[k] = t.bytes, t.blobs
	}
	return u
}

func (a *space) totalLocked() int64 {
	sum := a.promised + a.idle + a.strays + a.removed + a.aside
	for _, t := range a.kinds {
		sum += t.bytes
	}
	return sum
}

// stray counts n more bytes of strays.
func (a *space) stray(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.strays += n
}

// setAside counts what is in quarantine; where n is not all of it, as no less than
// before.
func (a *space) setAside(n int64, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if all || n > a.aside {
		a.aside = n
	}
}

// keep counts n more bytes that were removed and are read still.
func (a *space) keep(n int64) {
	if n == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.removed += n
}

// ceiling is the limit, or what can be counted.
func (a *space) ceiling() int64 {
	if a.limit > 0 {
		return a.limit
	}
	return math.MaxInt64
}

// fileSlack is how much more than its bytes a file may take on the medium.
const fileSlack = 64 << 10

// never reports whether n more bytes would not fit if all were gone that can be
// evicted, or that would not free as many bytes of the medium as are short.
func (a *space) never(n, short int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	stays, gain := a.staysLocked()
	return n > a.ceiling()-stays || short > gain
}

// staysLocked is how much is left when all is gone that can be evicted, and how much
// the medium gains by that at most.
func (a *space) staysLocked() (stays, gain int64) {
	stays, gain = a.promised+a.removed+a.aside, a.strays+a.idle+int64(len(a.parked))*fileSlack
	for k, t := range a.kinds {
		if evictable(k) {
			gain += t.bytes + t.blobs*fileSlack
		} else {
			stays += t.bytes
		}
	}
	return stays, gain
}

// setHeld notes how much pins keep of what could go otherwise.
func (a *space) setHeld(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = n
}

// evictable is how much could be evicted, if nobody used it, as far as is known.
func (a *space) evictable() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.evictableLocked()
}

func (a *space) evictableLocked() int64 {
	sum := a.idle - a.held
	for k, t := range a.kinds {
		if evictable(k) {
			sum += t.bytes
		}
	}
	return max(0, sum)
}

// plus is the sum of two numbers of bytes, or the highest there is.
func plus(a, b int64) int64 {
	if a > 0 && b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}

// take promises n bytes if they are below the limit.
func (a *space) take(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.ceiling()-a.totalLocked() { // a sum could overflow: n is what somebody claims to send
		return false
	}
	a.promised += n
	return true
}

// giveBack undoes take.
func (a *space) giveBack(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.promised -= n
}

// excess is how much has to go before n more bytes fit; 0 when they do.
func (a *space) excess(n int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := plus(a.totalLocked(), n)
	if a.limit == 0 || sum <= a.limit {
		return 0
	}
	return sum - a.limit
}

// ahead is how much is to go before anybody needs its room: so that a twentieth of
// what there is for what may go is free, once half of that is taken.
func (a *space) ahead() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit == 0 {
		return 0
	}
	room := a.limit - a.totalLocked()
	all := a.evictableLocked() + max(0, room)
	if room >= all/40 {
		return 0
	}
	return all/20 - room
}

// whenFreed gives what is closed when tellFreed is called.
func (a *space) whenFreed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.freed == nil {
		a.freed = make(chan struct{})
	}
	return a.freed
}

// tellFreed has whoever waits for room try again.
func (a *space) tellFreed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.freed != nil {
		close(a.freed)
		a.freed = nil
	}
}

// unwritten is how much of what was promised is not on the medium yet.
func (a *space) unwritten() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.promised - a.written
}

// add counts a blob, or with blobs -1 uncounts one.
func (a *space) add(k Kind, bytes, blobs int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kinds == nil {
		a.kinds = map[Kind]tally{}
	}
	t := a.kinds[k]
	a.kinds[k] = tally{t.bytes + bytes, t.blobs + blobs}
}

// park counts n bytes in a partial that was closed.
func (a *space) park(d digest.Digest, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle += n - a.parked[d]
	a.parked[d] = n
}

// unpark stops counting a partial that is opened, or gone, by what was counted:
// that is not always what its row says, since a write of rows may fail and yet
// be stored.
func (a *space) unpark(d digest.Digest) (was int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was = a.parked[d]
	a.idle -= was
	delete(a.parked, d)
	return was
}

// parkedAs is as how much a partial is parked, if it is.
func (a *space) parkedAs(d digest.Digest) (n int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok = a.parked[d]
	return n, ok
}

// allotment is the room that one writer was promised. Its methods are not safe
// for concurrent use.
type allotment struct {
	s       *Store
	partial bool
	fill    bool  // of a Partial
	size    int64 // promised
	used    int64 // written, or about to be
	there   int64 // of used, on the medium
}

// step is how much room a writer takes at once.
const step = 1 << 20

// reserve makes room for size bytes in all.
func (a *allotment) reserve(ctx context.Context, size int64) error {
	n := size - a.size
	if n <= 0 {
		return nil
	}
	if err := a.s.take(ctx, n); err != nil {
		return err
	}
	a.size += n
	return nil
}

// write counts n bytes before they are written, and makes room for them.
func (a *allotment) write(ctx context.Context, n int64) error {
	if missing := a.used + n - a.size; missing > 0 {
		more := max(missing, step)
		ok, err := a.s.tryTake(ctx, more)
		if err == nil && !ok {
			more = missing
			err = a.s.take(ctx, more)
		}
		if err != nil {
			return err
		}
		a.size += more
	}
	a.count(n)
	return nil
}

// adopt takes over n bytes that are there.
func (a *allotment) adopt(n int64) {
	a.size += n
	a.s.space.mu.Lock()
	a.s.space.promised += n
	if a.fill {
		a.s.space.arriving += n
	}
	a.s.space.mu.Unlock()
	a.count(n)
	a.wrote(n)
}

// count notes that n more bytes of the room are used: before they are written.
func (a *allotment) count(n int64) {
	a.used += n
	if a.partial {
		a.s.space.mu.Lock()
		defer a.s.space.mu.Unlock()
		a.s.space.open += n
	}
}

// wrote notes that n more of what is used is on the medium: when they are, since
// free space is short of them until then.
func (a *allotment) wrote(n int64) {
	n = min(n, a.used-a.there) // less where it was released meanwhile
	a.there += n
	a.s.space.mu.Lock()
	defer a.s.space.mu.Unlock()
	a.s.space.written += n
}

// release gives everything back: what was written is counted elsewhere by now,
// or gone.
func (a *allotment) release() {
	a.s.space.mu.Lock()
	defer a.s.space.mu.Unlock()
	a.s.space.promised -= a.size
	a.s.space.written -= a.there
	if a.partial {
		a.s.space.open -= a.used
	}
	if a.fill {
		a.s.space.arriving -= a.size
	}
	a.size, a.used, a.there = 0, 0, 0
}
