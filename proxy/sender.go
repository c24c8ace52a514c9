package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// claimTime is how long a request waits for the one before it to let go of an
	// upload.
	claimTime = 10 * time.Second
	// quietTime is how long a request that sends to an upload may bring nothing
	// while another one waits for it: a client that lost its connection comes back
	// long before that is noticed here.
	quietTime = 2 * time.Second
	// claimStep is how often it is looked whether it does.
	claimStep = 250 * time.Millisecond
)

// sender is a request that sends to an upload.
type sender struct {
	rc *http.ResponseController

	mu       sync.Mutex
	patience time.Time // when the deadline is to be renewed
	since    time.Time // it waits for the client since then; zero: it does not
	over     bool      // its connection is another request's by now
	cut      bool
	whole    bool // all of the body has come
}

// senders are those that send now, by upload.
type senders struct {
	mu sync.Mutex
	m  map[string]*sender
}

func (ss *senders) begin(id string, w http.ResponseWriter) *sender {
	s := &sender{rc: http.NewResponseController(w)}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.m == nil {
		ss.m = map[string]*sender{}
	}
	ss.m[id] = s
	return s
}

func (ss *senders) end(id string, s *sender) {
	s.mu.Lock()
	s.over = true
	if s.whole { // else what net/http may still read of the body is not waited for, either
		_ = s.rc.SetReadDeadline(time.Time{}) // a test's connection may have none
	}
	s.mu.Unlock()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.m, id)
}

// hurry ends the wait of the request that sends to an upload, if its client has
// been quiet.
func (ss *senders) hurry(id string, now time.Time) {
	ss.mu.Lock()
	s := ss.m[id]
	ss.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over && !s.since.IsZero() && now.Sub(s.since) >= quietTime {
		s.cut = true
		_ = s.rc.SetReadDeadline(now.Add(-time.Second))
	}
}

// read reads from the client, which has clientStall for it.
func (s *sender) read(r *http.Request, buf []byte) (int, error) {
	now := time.Now()
	s.mu.Lock()
	if s.since = now; !s.cut && now.After(s.patience) {
		s.patience = now.Add(clientStall / 2)
		_ = s.rc.SetReadDeadline(now.Add(clientStall))
	}
	s.mu.Unlock()
	n, err := r.Body.Read(buf)
	s.mu.Lock()
	s.since, s.whole = time.Time{}, errors.Is(err, io.EOF)
	s.mu.Unlock()
	return n, err
}

// claimUpload opens an upload, from a request whose client is gone if need be.
func (p *Proxy) claimUpload(ctx context.Context, repo oci.Repo, id string) (*storage.Upload, error) {
	for deadline := time.Now().Add(claimTime); ; {
		step, cancel := context.WithTimeout(ctx, claimStep)
		u, err := p.store.OpenUpload(step, repo, id)
		cancel()
		now := time.Now()
		if !errors.Is(err, storage.ErrBusy) || ctx.Err() != nil || now.After(deadline) {
			return u, err
		}
		p.senders.hurry(id, now)
	}
}
