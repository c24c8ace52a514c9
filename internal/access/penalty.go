package access

import (
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// After freeTries wrong passwords of a user from one address, at one place where
// users are known, each further one has to wait twice as long as the one before. An address may stand for a whole
// network, or for everybody behind a proxy, and is never shut: of all users
// together it has freeTriesOfAddress, and triesPerSecond more. A user who has
// logged in from there needs none of these.
const (
	freeTries          = 5
	freeTriesOfAddress = 50
	triesPerSecond     = 2
	firstPenalty       = time.Second
	maxPenalty         = 30 * time.Second
	// forgiven is how long after the last wrong password all is forgotten.
	forgiven = 15 * time.Minute
	// goodFor is how long who had the right password is known to be at home at an
	// address.
	goodFor = 24 * time.Hour
)

// maxPenalties bounds what is remembered of wrong passwords.
const maxPenalties = 8192

// penalties slow down who tries passwords. Who has the right one, and had it
// before, is not slowed down: that is known without another comparison. A try is
// counted before its password is compared, so that many at once are no way
// around it, and given back when the password was right.
type penalties struct {
	mu      sync.Mutex
	tries   *lru.Cache[trier, tries]
	addrs   *lru.Cache[string, level]
	good    *lru.Cache[trier, time.Time]
	pending map[attempt]*try
}

// trier is an address, and the user that was tried; upstream is who knows that
// one, "" where it is our own. The same name elsewhere is somebody else's, perhaps
// of whoever guesses here: that its password was right says nothing.
type trier struct{ addr, user, upstream string }

type tries struct {
	wrong int
	last  time.Time
}

// level is a leaking bucket of tries: what was in it at that time.
type level struct {
	tries float64
	when  time.Time
}

func (l level) at(now time.Time) float64 {
	return max(0, l.tries-triesPerSecond*now.Sub(l.when).Seconds())
}

// attempt is one password, by its keyed hash. All requests that come with it at
// once are one try.
type attempt struct {
	trier
	sum [sha256.Size]byte
}

// try is a password that is being compared, for so many requests.
type try struct {
	p        *penalties
	of       attempt
	requests int
	spent    bool // of the address's
	kept     bool // it was wrong, or has been given back
}

// verdictOf is how a try ended.
type verdictOf int

const (
	triedNothing verdictOf = iota // it was not compared
	triedWrong
	triedRight
)

func newPenalties() *penalties {
	p := &penalties{pending: map[attempt]*try{}}
	var err, err2, err3 error
	p.tries, err = lru.New[trier, tries](maxPenalties)
	p.addrs, err2 = lru.New[string, level](maxPenalties)
	p.good, err3 = lru.New[trier, time.Time](maxPenalties)
	if err := errors.Join(err, err2, err3); err != nil {
		panic(err) // the sizes are constants
	}
	return p
}

// begin counts a try of who with the password of sum, or says how long it has to
// wait. Without a wait the try has to be ended.
func (p *penalties) begin(who trier, sum [sha256.Size]byte, now time.Time) (*try, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := attempt{who, sum}
	if t, ok := p.pending[of]; ok {
		t.requests++
		return t, 0
	}
	if wait := p.waitLocked(of.trier, now); wait > 0 {
		return nil, wait
	}
	t := &try{p: p, of: of, requests: 1}
	x, ok := p.tries.Get(of.trier)
	if !ok || now.Sub(x.last) >= forgiven {
		x = tries{}
	}
	if t.spent = !p.homeLocked(of.trier, now); t.spent {
		l, _ := p.addrs.Get(who.addr)
		p.addrs.Add(who.addr, level{l.at(now) + 1, now})
	}
	p.tries.Add(of.trier, tries{x.wrong + 1, now})
	p.pending[of] = t
	return t, 0
}

// homeLocked reports whether t has logged in before, and not been wrong since.
func (p *penalties) homeLocked(t trier, now time.Time) bool {
	when, ok := p.good.Get(t)
	x, tried := p.tries.Get(t)
	return ok && now.Sub(when) < goodFor && (!tried || x.wrong == 0)
}

func (p *penalties) waitLocked(t trier, now time.Time) (wait time.Duration) {
	if l, ok := p.addrs.Get(t.addr); ok && !p.homeLocked(t, now) {
		if over := l.at(now) - (freeTriesOfAddress - 1); over > 0 {
			wait = time.Duration(over / triesPerSecond * float64(time.Second))
		}
	}
	x, ok := p.tries.Get(t)
	if !ok || x.wrong < freeTries || now.Sub(x.last) >= forgiven {
		return wait
	}
	pause := maxPenalty
	if n := x.wrong - freeTries; n < 16 {
		pause = min(maxPenalty, firstPenalty<<n)
	}
	return max(wait, x.last.Add(pause).Sub(now))
}

// end ends a request's part in a try. A password that was right takes all wrong
// ones of that user from there with it; those of others still count.
func (t *try) end(v verdictOf, now time.Time) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	t.requests--
	switch {
	case v == triedRight:
		t.giveBackLocked(now)
		p.tries.Remove(t.of.trier)
		p.good.Add(t.of.trier, now)
	case v == triedWrong:
		t.kept = true
	case t.requests == 0:
		t.giveBackLocked(now)
	}
	if t.requests == 0 {
		delete(p.pending, t.of)
	}
}

func (t *try) giveBackLocked(now time.Time) {
	if t.kept {
		return
	}
	t.kept = true
	if x, ok := t.p.tries.Get(t.of.trier); ok && x.wrong > 0 {
		t.p.tries.Add(t.of.trier, tries{x.wrong - 1, x.last})
	}
	if l, ok := t.p.addrs.Get(t.of.addr); ok && t.spent {
		t.p.addrs.Add(t.of.addr, level{max(0, l.at(now)-1), now})
	}
}

// right forgets the wrong passwords of who.
func (p *penalties) right(who trier, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries.Remove(who)
	p.good.Add(who, now)
}

// clientAddress is what stands for a client in penalties: its address, of IPv6
// the network that one client usually has.
func clientAddress(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if n, err := a.Prefix(64); err == nil {
			return n.String()
		}
	}
	return a.String()
}
