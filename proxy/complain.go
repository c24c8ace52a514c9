package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// complainEvery is how often the log says that the store does not keep what
// passes, for each reason: a full store would say so with every request.
const complainEvery = time.Minute

// complaints are what the log was told, by reason.
type complaints struct {
	mu sync.Mutex
	by map[string]complaint
}

type complaint struct {
	told  time.Time
	since int // that were not told
}

// note counts one more and says whether it is to be told, and of how many.
func (c *complaints) note(reason string, now time.Time) (times int, tell bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, was := c.by[reason]
	x.since++
	times, tell = x.since, !was || now.Sub(x.told) >= complainEvery
	if tell {
		x = complaint{told: now}
	}
	if c.by == nil {
		c.by = map[string]complaint{}
	}
	c.by[reason] = x
	return times, tell
}

// tellsUnkept reports whether the log is to be told of a fetch that failed with err:
// where the store takes no bytes that would be each one, and now and then is enough.
func (p *Proxy) tellsUnkept(err error) bool {
	if _, unkept := errors.AsType[keepError](err); !unkept {
		return true
	}
	_, tell := p.complaints.note("blob not fetched", p.now())
	return tell
}

// passed counts what is sent and not kept, and has the log say so.
func (p *Proxy) passed(ctx context.Context, repo oci.Repo, d digest.Digest, cause error) {
	if errors.Is(cause, storage.ErrBlocked) { // since it was asked for
		return
	}
	p.metrics.passed.Inc()
	reason := "the store failed"
	if errors.Is(cause, storage.ErrFull) {
		reason = "the store is full"
	}
	if times, tell := p.complaints.note(reason, p.now()); tell {
		p.log.ErrorContext(ctx, "passed on without being kept", "reason", reason, "times", times, "digest", d, "repo", repo, "err", cause)
	}
}
