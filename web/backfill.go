package web

import (
	"context"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Backfill queues the indexing of all images that a pattern means, under the
// rules, and gives the job that finds them. Its errors are for people.
type Backfill func(ctx context.Context, pattern string, platforms []string) (Job, error)

// BackfillRequest asks for it.
type BackfillRequest struct {
	Pattern   string   `json:"pattern"`             // as index.rules have them, of one upstream
	Platforms []string `json:"platforms,omitempty"` // of image indexes; none: those of the rule, or this machine's
}

// JobOf is a task as the list of jobs has it.
func JobOf(t *storage.TaskRow) Job { return taskJob(t, time.Now()) }

func (s *Web) backfill(w http.ResponseWriter, r *http.Request) error {
	var q BackfillRequest
	if err := receive(w, r, &q); err != nil {
		return err
	}
	if s.opt.Backfill == nil {
		return oci.NewError(errcode.ErrorCodeUnsupported, "indexes are not made here")
	}
	names := make([]string, 0, len(q.Platforms))
	for _, word := range q.Platforms {
		p, err := oci.ParsePlatform(word)
		if err != nil {
			return wrong(err)
		}
		names = append(names, oci.PlatformName(p))
	}
	job, err := s.opt.Backfill(r.Context(), q.Pattern, names)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "backfill asked for", "pattern", q.Pattern, "job", job.ID)
	return sendJSON(w, job)
}
