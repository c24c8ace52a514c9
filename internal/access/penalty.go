package access

import (
	"net"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// After freeTries wrong passwords of a user from one address, each further one
// has to wait twice as long as the one before. An address from which many
// users are tried has freeTriesOfAddress, and waits less: it may stand for a
// whole network.
const (
	freeTries          = 5
	freeTriesOfAddress = 50
	firstPenalty       = time.Second
	maxPenalty         = 30 * time.Second
	maxAddressPenalty  = 2 * time.Second
	// forgiven is how long after the last wrong password all is forgotten.
	forgiven = 15 * time.Minute
)

// maxPenalties bounds what is remembered of wrong passwords.
const maxPenalties = 8192

// penalties slow down who tries passwords. Who has the right one, and had it
// before, is not slowed down: that is known without another comparison.
type penalties struct {
	mu    sync.Mutex
	tries *lru.Cache[trier, tries]
}

// trier is an address, and the user that was tried; "" is any.
type trier struct{ addr, user string }

type tries struct {
	wrong int
	last  time.Time
}

func newPenalties() *penalties {
	c, err := lru.New[trier, tries](maxPenalties)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &penalties{tries: c}
}

// wait is how long user is not to be tried from addr; 0: it may be.
func (p *penalties) wait(addr, user string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(
		p.waitLocked(trier{addr, user}, freeTries, maxPenalty, now),
		p.waitLocked(trier{addr, ""}, freeTriesOfAddress, maxAddressPenalty, now))
}

func (p *penalties) waitLocked(t trier, free int, limit time.Duration, now time.Time) time.Duration {
	x, ok := p.tries.Get(t)
	if !ok || x.wrong < free || now.Sub(x.last) >= forgiven {
		return 0
	}
	pause := limit
	if n := x.wrong - free; n < 16 {
		pause = min(limit, firstPenalty<<n)
	}
	return max(0, x.last.Add(pause).Sub(now))
}

// wrong counts a wrong password.
func (p *penalties) wrong(addr, user string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range []trier{{addr, user}, {addr, ""}} {
		x, ok := p.tries.Get(t)
		if !ok || now.Sub(x.last) >= forgiven {
			x = tries{}
		}
		p.tries.Add(t, tries{x.wrong + 1, now})
	}
}

// right forgets the wrong passwords of user from addr. Those of others from
// there still count.
func (p *penalties) right(addr, user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries.Remove(trier{addr, user})
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
