package upstream

import (
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
)

const (
	// maxSenders bounds the blobs of which is remembered who sent them.
	maxSenders = 4096
	// distrust is how long an endpoint that sent wrong bytes of a blob is asked
	// for that one after all others.
	distrust = 10 * time.Minute
)

// senders remembers which endpoints sent a blob, and who of them sent wrong
// bytes. What the bytes of a transfer are worth is known at its end, and not here.
type senders struct {
	mu   sync.Mutex
	sent *lru.Cache[string, []sender] // by the path of the blob
}

type sender struct {
	e     *endpoint
	wrong time.Time // until then; zero: nothing is known against it
}

func newSenders() *senders {
	sent, err := lru.New[string, []sender](maxSenders)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &senders{sent: sent}
}

// note says that e sends the blob.
func (s *senders) note(path string, e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, _ := s.sent.Get(path)
	if !slices.ContainsFunc(list, func(x sender) bool { return x.e == e }) {
		s.sent.Add(path, append(slices.Clone(list), sender{e: e}))
	}
}

// wrong reports whether e sent wrong bytes of the blob lately.
func (s *senders) wrong(path string, e *endpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, _ := s.sent.Peek(path)
	return slices.ContainsFunc(list, func(x sender) bool { return x.e == e && time.Now().Before(x.wrong) })
}

// Reject says that what came of the blob d is not what its digest says. Whoever
// sent of it is asked after the others: for this blob for ten minutes, for all
// else as long as the breaker's pause.
func (c *Client) Reject(d digest.Digest) {
	if len(c.ends) == 1 {
		return
	}
	path := blobPath(d)
	c.senders.mu.Lock()
	list, _ := c.senders.sent.Get(path)
	next := make([]sender, 0, len(list))
	for _, x := range list {
		next = append(next, sender{x.e, time.Now().Add(distrust)})
	}
	c.senders.sent.Add(path, next)
	c.senders.mu.Unlock()
	for _, x := range next {
		x.e.gate.doubt()
		x.e.log.Warn("wrong bytes came: others are asked before it for a while", "digest", d)
	}
}

// doubt has the other endpoints asked first for a moment.
func (g *gate) doubt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doubted = time.Now().Add(g.pause)
}

func (g *gate) inDoubt() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.doubted)
}
