package indexer

import (
	"sync/atomic"
	"time"
)

// nearEnd is how long before its last byte, as it seems, a build counts as about to
// end. What comes behind that byte takes some 40 ms, and an index is to be listed
// within 200 ms after somebody was answered who waited for it.
const nearEnd = 100 * time.Millisecond

// pace tells how fast a build works, and when it is near its end.
type pace struct {
	near chan struct{} // closed then
	size atomic.Int64  // of what is built; 0: not known

	// For the build alone.
	read  int64
	spent time.Duration // building
	since time.Time     // it builds since then; zero: it waits for bytes
	told  bool          // near is closed

	lately float64       // nanoseconds a byte, over about nearEnd
	seen   int64         // read, when lately was told
	before time.Duration // spent, then
}

func newPace() pace { return pace{near: make(chan struct{})} }

// ends says how many bytes are built.
func (p *pace) ends(size int64) { p.size.Store(size) }

// waits says that the build has done what it had and waits for more. What the
// rest will take is told by what it took so far, or lately where that was slower, once
// that is enough to tell by. It can't foresee an end that inflates to far more than what
// came before it.
func (p *pace) waits(now time.Time) {
	if !p.since.IsZero() {
		p.spent += now.Sub(p.since)
		p.since = time.Time{}
	}
	if d := p.spent - p.before; d >= nearEnd && p.read > p.seen {
		p.lately = float64(d) / float64(p.read-p.seen)
		p.seen, p.before = p.read, p.spent
	}
	size := p.size.Load()
	if p.told || size == 0 || p.read == 0 || p.spent < nearEnd {
		return
	}
	if float64(size-p.read)*max(float64(p.spent)/float64(p.read), p.lately) <= float64(nearEnd) {
		p.told = true
		close(p.near)
	}
}

// works says that n more bytes are being built.
func (p *pace) works(now time.Time, n int) { p.read, p.since = p.read+int64(n), now }
