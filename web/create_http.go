package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// tellEvery bounds how often a client hears of progress.
const tellEvery = 100 * time.Millisecond

// errStops is told to those who wait for an index.
var errStops = &oci.Error{Code: errcode.ErrorCodeUnavailable, Message: "the server stops before the index is there: run the command again when it is back"}

// create answers with a line of JSON for each CreateEvent. When the client
// leaves, or life ends, what was asked for is still made.
func (s *Web) create(life context.Context, w http.ResponseWriter, r *http.Request) error {
	if s.opt.Creator == nil {
		return oci.NewError(errcode.ErrorCodeUnsupported, "indexes are not made here")
	}
	var q CreateRequest
	if err := receive(w, r, &q); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(life, func() { cancel(errStops) })()
	out := json.NewEncoder(w)
	var told time.Time
	send := func(e CreateEvent) {
		if told.IsZero() {
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		told = time.Now()
		if err := out.Encode(e); err != nil {
			cancel(err)
		}
		_ = http.NewResponseController(w).Flush() // a client that left cancels
	}
	list, err := s.opt.Creator.Create(ctx, q, func(p CreateProgress) {
		if time.Since(told) >= tellEvery {
			send(CreateEvent{Progress: &p})
		}
	})
	if err != nil && errors.Is(context.Cause(ctx), errStops) {
		err = errStops
	}
	if err != nil && told.IsZero() && list == nil {
		return operatorError(err)
	}
	last := CreateEvent{Indexes: list}
	if err != nil {
		last.Error = ErrorText(err)
	}
	send(last)
	s.log.InfoContext(ctx, "index asked for", "name", q.Name, "images", len(list), "err", err)
	return nil
}

// ErrorText is an error as the owner of the store reads it.
func ErrorText(err error) string {
	if e, ok := errors.AsType[*oci.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
