package referrers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Store is what the list needs of the store.
type Store interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
}

// Upstream asks the upstream for the referrers of subject in repo. An upstream
// that has none, or no such API, gives an empty list and no error. It returns
// when ctx ends.
type Upstream func(ctx context.Context, repo oci.Repo, subject digest.Digest) ([]v1.Descriptor, error)

// Options are what New needs. Only Store is required.
type Options struct {
	Store      Store
	Upstream   Upstream              // nil: only what was made here is listed
	Timeout    time.Duration         // for the upstream's answer; 0: 1 s
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is measured
}

// Referrers serves the referrers API. It is safe for concurrent use.
type Referrers struct {
	store    Store
	upstream *asker // nil: none
	log      *slog.Logger
	m        *metrics
}

// New makes a Referrers. It starts nothing that would have to be stopped.
func New(o Options) *Referrers {
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Referrers{store: o.Store, log: o.Logger, m: newMetrics(o.Registerer)}
	if o.Upstream != nil {
		s.upstream = newAsker(o.Upstream, o.Timeout)
	}
	return s
}

// Serve answers GET and HEAD /v2/<name>/referrers/<digest>. repo is what the
// request's name means and subject its digest; that the caller may read repo
// was checked. The query may have artifactType, to filter by, and last, where
// an earlier page's Link goes on. The answer is 200 even when nothing is
// listed; an error is the store's, or the request's own end.
func (s *Referrers) Serve(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error {
	query := r.URL.Query()
	filter := query.Get("artifactType")
	all, err := s.list(r.Context(), repo, subject, filter)
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	page, err := paginate(all, query.Get("last"), maxPageBytes)
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	h := w.Header()
	if page.next != "" {
		h.Set("Link", nextLink(r.URL, query, page.next))
	}
	if filter != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
	}
	// Without parameters: a client takes any other spelling for "no such API".
	h.Set("Content-Type", v1.MediaTypeImageIndex)
	h.Set("Content-Length", strconv.Itoa(len(page.body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(page.body) // the client left: nobody to tell
	}
	return nil
}

// nextLink is the Link header (RFC 8288) of the page behind last: the same
// URL, so that it reaches the same repository however that was spelled.
func nextLink(u *url.URL, query url.Values, last string) string {
	query.Set("last", last)
	return fmt.Sprintf(`<%s?%s>; rel="next"`, u.EscapedPath(), query.Encode())
}
