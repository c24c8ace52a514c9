package referrers

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// Coming knows of SOCI v1 indexes that are not listed yet.
type Coming interface {
	// Coming says whether the index of subject will certainly be listed in repo,
	// and about when.
	Coming(ctx context.Context, repo oci.Repo, subject digest.Digest) (in time.Duration, ok bool, err error)
	// BringLayers begins to fetch what such an index takes.
	BringLayers(ctx context.Context, repo oci.Repo, subject digest.Digest) error
}

// HoldOptions say how a client that asks for a SOCI index is made to wait for
// one: it remembers an empty list until its daemon restarts.
type HoldOptions struct {
	Coming Coming        // nil: nobody waits
	Wait   time.Duration // one answer is held for so long; 0: 2 s
	Max    time.Duration // and a client for so long in all; 0: 20 s
	Build  bool          // the first to ask has the layers fetched, if nobody pulls them
}

const (
	// holdPoll is how often it is looked whether the index is there.
	holdPoll = 50 * time.Millisecond
	// maxHeld bounds the clients that are remembered.
	maxHeld = 4096
)

// holds remembers since when a client waits for an index.
type holds struct {
	opt HoldOptions
	now func() time.Time

	mu    sync.Mutex
	since map[held]time.Time
}

// held is one client's question. Each client has patience of its own.
type held struct {
	subject digest.Digest
	client  string
}

func newHolds(o HoldOptions) *holds {
	if o.Wait <= 0 {
		o.Wait = 2 * time.Second
	}
	if o.Max <= 0 {
		o.Max = 20 * time.Second
	}
	return &holds{opt: o, now: time.Now, since: map[held]time.Time{}}
}

// begin gives when the client began to wait.
func (h *holds) begin(k held) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	at, ok := h.since[k]
	if ok && now.Sub(at) < 2*h.opt.Max { // else it is another question
		return at
	}
	if len(h.since) >= maxHeld {
		for other, t := range h.since {
			if now.Sub(t) > h.opt.Max {
				delete(h.since, other)
			}
		}
		if len(h.since) >= maxHeld {
			return now.Add(-h.opt.Max) // too many: nobody more waits
		}
	}
	h.since[k] = now
	return now
}

func (h *holds) end(k held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.since, k)
}

// errNotYet has the client ask again in a second, which it does about eight times.
var errNotYet = &oci.Error{
	Code: errcode.ErrorCodeUnavailable, Status: http.StatusServiceUnavailable,
	Message: "the SOCI index of this image is about to be listed: ask again", RetryAfter: time.Second,
}

// hold waits, for a request that asks for SOCI indexes and would get none, for
// one that will certainly come. again reports that by now there may be one, so
// that the list is to be made anew; an error is the answer, or the request's own
// end.
func (s *Referrers) hold(r *http.Request, q query) (again bool, err error) {
	h := s.holds
	if h.opt.Coming == nil || q.filter != oci.MediaTypeSOCIIndexV1 || q.last != "" {
		return false, nil
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	k := held{q.subject, client}
	ctx := r.Context()
	began, asked := time.Time{}, h.now()
	for first := true; ; first = false {
		in, ok, err := s.certain(ctx, q, first)
		if err != nil {
			return false, err
		}
		if !ok { // it is there by now, or will not come
			h.end(k)
			return true, nil
		}
		if first {
			began = h.begin(k)
			defer func() {
				if d := h.now().Sub(asked); d > 0 {
					s.m.waited.Observe(d.Seconds())
				}
			}()
		}
		left := h.opt.Max - h.now().Sub(began)
		switch {
		case left <= 0 || in > left:
			return false, nil
		case h.now().Sub(asked) >= h.opt.Wait:
			s.m.held.Inc()
			return false, errNotYet
		}
		t := time.NewTimer(min(holdPoll, h.opt.Wait))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false, context.Cause(ctx)
		}
	}
}

// certain asks, and has the layers fetched where that is the policy and nobody
// else does.
func (s *Referrers) certain(ctx context.Context, q query, first bool) (in time.Duration, ok bool, err error) {
	c := s.holds.opt.Coming
	in, ok, err = c.Coming(ctx, q.repo, q.subject)
	if err != nil || ok || !first || !s.holds.opt.Build {
		return in, ok, err
	}
	if err := c.BringLayers(ctx, q.repo, q.subject); err != nil {
		return 0, false, err
	}
	return c.Coming(ctx, q.repo, q.subject)
}
