package web

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/sociable/sociable/storage"
)

// CheckRequest says how to check the store; see storage.CheckOptions.
type CheckRequest struct {
	Repair bool `json:"repair,omitempty"`
	// BytesPerSecond bounds the reading. 0: no bound, but on a running server
	// what leaves room for its clients; negative: no bound there either.
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
}

// besideClients is how fast a running server reads unless it is told otherwise.
const besideClients = 128 << 20

// CheckEvent is one line of the answer to a check: exactly one is set. The last
// has Report, and beside it Error where the check ended early.
type CheckEvent struct {
	Progress *storage.CheckProgress `json:"progress,omitempty"`
	Problem  *storage.Problem       `json:"problem,omitempty"`
	Report   *storage.CheckReport   `json:"report,omitempty"`
	Error    string                 `json:"error,omitempty"`
}

// Options are those of the check that q asks for, telling what it finds and how
// far it is.
func (q CheckRequest) Options(tell func(CheckEvent)) storage.CheckOptions {
	return storage.CheckOptions{
		Repair: q.Repair, BytesPerSecond: max(0, q.BytesPerSecond),
		Found:    func(p storage.Problem) { tell(CheckEvent{Problem: &p}) },
		Progress: func(p storage.CheckProgress) { tell(CheckEvent{Progress: &p}) },
	}
}

func (s *Web) check(life context.Context, w http.ResponseWriter, r *http.Request) error {
	var q CheckRequest
	if err := receive(w, r, &q); err != nil {
		return err
	}
	return s.Check(life, w, r, q)
}

// Check reads all that is stored and answers with a line of JSON for each
// CheckEvent. It ends when the client leaves, or with life.
func (s *Web) Check(life context.Context, w http.ResponseWriter, r *http.Request, q CheckRequest) error {
	if q.BytesPerSecond == 0 {
		q.BytesPerSecond = besideClients
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(life, func() { cancel(context.Cause(life)) })()
	if life.Err() != nil {
		cancel(context.Cause(life))
	}
	out, begun := json.NewEncoder(w), false
	tell := func(e CheckEvent) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if err := out.Encode(e); err != nil {
			cancel(err)
		}
		_ = http.NewResponseController(w).Flush() // a client that left cancels
	}
	report, err := s.opt.Store.Check(ctx, q.Options(tell))
	if err != nil && !begun && report.Took == 0 {
		return operatorError(err)
	}
	last := CheckEvent{Report: &report}
	if err != nil {
		last.Error = err.Error()
	}
	tell(last)
	s.log.InfoContext(ctx, "store checked", "blobs", report.Blobs, "bytes", report.Bytes,
		"problems", report.Problems, "repaired", report.Repaired, "leftovers", report.Leftovers, "dur", report.Took, "err", err)
	return nil
}
