package web

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Collector removes garbage; *storage.Collector is one.
type Collector interface {
	Collect(ctx context.Context, dry bool, found func(storage.Collected)) (storage.CollectReport, error)
	// CollectAfter is Collect with another grace than the configuration's.
	CollectAfter(ctx context.Context, grace time.Duration, dry bool, found func(storage.Collected)) (storage.CollectReport, error)
}

// GCRequest asks for a collection of garbage.
type GCRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
	// GraceSeconds is for how long what was pushed or asked for stays; absent: as
	// configured.
	GraceSeconds *float64 `json:"grace_seconds,omitempty"`
}

// GCEvent is one line of the answer to a GCRequest. The last has Report, and
// beside it Error where the collection ended early.
type GCEvent struct {
	Collected *storage.Collected     `json:"collected,omitempty"`
	Report    *storage.CollectReport `json:"report,omitempty"`
	Error     string                 `json:"error,omitempty"`
}

func (s *Web) gc(life context.Context, w http.ResponseWriter, r *http.Request) error {
	var q GCRequest
	if err := receive(w, r, &q); err != nil {
		return err
	}
	return s.GC(life, w, r, q)
}

// maxGrace is longer than anybody keeps what nothing needs; in nanoseconds it can
// be counted with.
const maxGrace = 100 * 365 * 24 * time.Hour

// grace is how long q leaves alone what is new; 0 where it does not say.
func (q GCRequest) grace() (time.Duration, error) {
	if q.GraceSeconds == nil {
		return 0, nil
	}
	if s := *q.GraceSeconds; s < 0 || s > maxGrace.Seconds() {
		return 0, oci.NewError(errcode.ErrorCodeNameInvalid, "grace_seconds: want 0 to %.0f, got %v", maxGrace.Seconds(), s)
	}
	return time.Duration(*q.GraceSeconds * float64(time.Second)), nil
}

// GC collects garbage and answers with a line of JSON for each GCEvent. It ends
// when the client leaves, or with life; the next collection does the rest.
func (s *Web) GC(life context.Context, w http.ResponseWriter, r *http.Request, q GCRequest) error {
	if s.opt.Collector == nil {
		return oci.NewError(errcode.ErrorCodeUnsupported, "this server collects no garbage")
	}
	grace, err := q.grace()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(life, func() { cancel(context.Cause(life)) })()
	out, begun := json.NewEncoder(w), false
	tell := func(e GCEvent) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if err := out.Encode(e); err != nil {
			cancel(err)
		}
	}
	found := func(x storage.Collected) { tell(GCEvent{Collected: &x}) }
	collect := s.opt.Collector.Collect
	if q.GraceSeconds != nil {
		collect = func(ctx context.Context, dry bool, found func(storage.Collected)) (storage.CollectReport, error) {
			return s.opt.Collector.CollectAfter(ctx, grace, dry, found)
		}
	}
	report, err := collect(ctx, q.DryRun, found)
	if err != nil && !begun {
		return operatorError(err)
	}
	last := GCEvent{Report: &report}
	if err != nil {
		last.Error = err.Error()
	}
	tell(last)
	return nil
}
