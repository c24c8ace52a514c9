package referrers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// Store is what the list needs of the store.
type Store interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
	Update(ctx context.Context, fn func(storage.Tx) error) error
}

// Offers chooses which SOCI v1 index of an image a client is offered, where there
// are several. It does not wait.
type Offers interface {
	// Offer gives plain, the one that is listed in rows, or another one that was
	// made here of subject. asked says that the request is for SOCI indexes alone.
	Offer(r *http.Request, repo oci.Repo, subject digest.Digest, plain v1.Descriptor, asked bool) v1.Descriptor
}

// Made knows what becomes of the SOCI v1 indexes that are made here.
type Made interface {
	// Offers reports whether the index that was made here of subject is to be listed
	// for those who pull it from repo.
	Offers(tx storage.Tx, repo oci.Repo, subject digest.Digest) (bool, error)
}

// Upstream asks the upstream for the referrers of subject in repo. An upstream
// that has none, or no such API, gives an empty list and no error. It returns
// when ctx ends.
type Upstream func(ctx context.Context, repo oci.Repo, subject digest.Digest) ([]v1.Descriptor, error)

// Options are what New needs. Only Store is required.
type Options struct {
	Store      Store
	Upstream   Upstream              // nil: only what was made here is listed
	Hosted     func(up string) bool  // whether images are pushed here rather than pulled; nil: none are
	Timeout    time.Duration         // for the upstream's answer; 0: 1 s
	TTL        time.Duration         // the upstream's answer is good for so long; 0: 1 min
	Hold       HoldOptions           // of clients that ask for an index that is about to come
	Made       Made                  // nil: what was made here is listed in every repository
	Offers     Offers                // nil: all clients are offered the same index
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is measured
}

// Referrers serves the referrers API. It is safe for concurrent use.
type Referrers struct {
	store    Store
	upstream *asker // nil: none
	hosted   func(up string) bool
	holds    *holds
	made     Made
	offers   Offers
	log      *slog.Logger
	m        *metrics
}

// New makes a Referrers. It starts nothing that would have to be stopped.
func New(o Options) *Referrers {
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.TTL <= 0 {
		o.TTL = time.Minute
	}
	if o.Hosted == nil {
		o.Hosted = func(string) bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Referrers{store: o.Store, hosted: o.Hosted, holds: newHolds(o.Hold), made: o.Made, offers: o.Offers, log: o.Logger, m: newMetrics(o.Registerer)}
	if o.Upstream != nil {
		s.upstream = newAsker(o.Upstream, o.Timeout, o.TTL, o.Store)
	}
	return s
}

// Changed is told that a push which went through to the upstream may have
// changed subject's list there. An error means that an outdated list may be
// served until it expires.
func (s *Referrers) Changed(ctx context.Context, repo oci.Repo, subject digest.Digest) error {
	if s.upstream == nil {
		return nil
	}
	return s.upstream.forget(ctx, question{repo, subject})
}

// Serve answers GET and HEAD /v2/<name>/referrers/<digest>. repo is what the
// request's name means and subject its digest; that the caller may read repo
// was checked. The query may have artifactType, to filter by, n, how many to
// list at most, and last, where an earlier page's Link goes on. The answer is
// 200 even when nothing is listed. An error is the store's, the request's own end, or
// an *oci.Error of 503 where nothing can be listed before the upstream is heard:
// clients take an empty list for its word, and remember it.
func (s *Referrers) Serve(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error {
	return s.serve(w, r, query{repo: repo, subject: subject})
}

// ServeTheirs is Serve where an upstream's repo does not have subject, or no longer:
// what was made here of it, for other repositories, is not listed, and nobody waits
// for that. What the upstream listed before is forgotten: it may have shown that to
// others.
func (s *Referrers) ServeTheirs(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error {
	if err := s.Changed(r.Context(), repo, subject); err != nil {
		return fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	return s.serve(w, r, query{repo: repo, subject: subject, theirs: true})
}

func (s *Referrers) serve(w http.ResponseWriter, r *http.Request, q query) error {
	params := r.URL.Query()
	q.filter, q.last, q.n = params.Get("artifactType"), params.Get("last"), math.MaxInt
	if n, err := strconv.Atoi(params.Get("n")); err == nil && n > 0 { // not in the specification, but clients send it
		q.n = n
	}
	all, err := s.list(r.Context(), q)
	if err == nil && all.soci == nil && !q.theirs {
		var again bool
		if again, err = s.hold(r, q); again {
			all, err = s.list(r.Context(), q)
		}
	}
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", q.subject, err)
	}
	if all.unheard() {
		return unheard(q, all.trouble)
	}
	if q.last == "" {
		s.count(all.soci != nil, all.ours)
	}
	s.offer(r, q, &all)
	page, err := paginate(all.listing, q.last, maxPageBytes, q.n)
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", q.subject, err)
	}
	h := w.Header()
	if page.next != "" {
		h.Set("Link", nextLink(r.URL, params, page.next))
	}
	if q.filter != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
	}
	// The form that the specification gives warnings ("Warnings").
	switch {
	case all.trouble == nil, !all.known && errors.Is(all.trouble, upstream.ErrOffline):
	case all.known:
		h.Set("Warning", `299 - "stale: the upstream could not be asked, its referrers are listed as they last were"`)
	default:
		h.Set("Warning", `299 - "incomplete: the upstream could not be asked, and what it lists was never seen here"`)
	}
	send(w, r, page.body)
	return nil
}

// unheard reports that nothing is listed for the only reason that the upstream,
// of which it is not known what it lists, does not answer at the moment.
func (g *gathered) unheard() bool {
	return g.soci == nil && len(g.rest) == 0 && !g.known && unanswered(g.trouble)
}

// unheard has the client ask again in a second, as errNotYet does.
func unheard(q query, why error) error {
	return &oci.Error{
		Code: errcode.ErrorCodeUnavailable, Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Err: why,
		Message: fmt.Sprintf("list referrers of %s in %s: its upstream does not answer, and nothing is known here of what it lists: ask again", q.subject, q.repo),
	}
}

// ServeTag answers GET and HEAD of the tag that stands for subject in the
// specification's "Referrers Tag Schema", for clients that know nothing else,
// in a repository that has no such tag. storage.ErrNotFound when nothing refers
// to subject. What has no room in one manifest is left out.
func (s *Referrers) ServeTag(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error {
	all, err := s.list(r.Context(), query{repo: repo, subject: subject, n: math.MaxInt})
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	if all.soci == nil && len(all.rest) == 0 {
		return fmt.Errorf("referrers of %s: %w", subject, storage.ErrNotFound)
	}
	s.count(all.soci != nil, all.ours)
	s.offer(r, query{repo: repo, subject: subject}, &all)
	page, err := paginate(all.listing, "", maxPageBytes, math.MaxInt)
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	d := digest.FromBytes(page.body)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", strconv.Quote(d.String()))
	send(w, r, page.body)
	return nil
}

// offer puts the index that is for this client in the place of the one that was
// made here: there is exactly one in a list.
func (s *Referrers) offer(r *http.Request, q query, all *gathered) {
	if s.offers == nil || !all.ours || all.soci == nil {
		return
	}
	asked := q.filter == oci.MediaTypeSOCIIndexV1 && r.Method == http.MethodGet
	d := s.offers.Offer(r, q.repo, q.subject, *all.soci, asked)
	all.soci = &d
}

func send(w http.ResponseWriter, r *http.Request, body []byte) {
	h := w.Header()
	// Without parameters: a client takes any other spelling for "no such API".
	h.Set("Content-Type", v1.MediaTypeImageIndex)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client left: nobody to tell
	}
}

// nextLink is the Link header (RFC 8288) of the page behind last: the same
// URL, so that it reaches the same repository however that was spelled.
func nextLink(u *url.URL, query url.Values, last string) string {
	query.Set("last", last)
	return fmt.Sprintf(`<%s?%s>; rel="next"`, u.EscapedPath(), query.Encode())
}
