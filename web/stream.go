package web

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// stream answers with a line of JSON for each event, as it happens. It is safe
// for concurrent use. What it tells of ends when the client leaves, or with the
// life that it was given.
type stream struct {
	w      http.ResponseWriter
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	out   *json.Encoder
	begun bool
	last  time.Time // of progress
}

// newStream gives the context of what the answer tells of, and what to call at
// the end of it.
func newStream(life context.Context, w http.ResponseWriter, r *http.Request) (*stream, context.Context, func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	s := &stream{w: w, cancel: cancel, out: json.NewEncoder(w)}
	return s, ctx, func() { stop(); cancel(nil) }
}

func (s *stream) tell(event any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(event)
}

// often tells what is worth telling only now and then.
func (s *stream) often(event any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.last) >= 100*time.Millisecond {
		s.last = now
		s.send(event)
	}
}

func (s *stream) send(event any) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	if err := s.out.Encode(event); err != nil {
		s.cancel(err)
	}
	_ = http.NewResponseController(s.w).Flush() // a client that left cancels
}
