package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Options are what a Web is made of. Store and Gatherer are required.
type Options struct {
	Store     *storage.Store
	Gatherer  prometheus.Gatherer
	Collector Collector // nil: garbage is not collected
	Creator   *Creator  // nil: no indexes are made
	Backfill  Backfill  // nil: nor of many images at once
	Images    Images    // nil: nothing is pulled or imported through here
	Indexing  Indexing  // nil: nothing is indexed
	Wake      func()    // called when jobs were changed; nil: nobody waits for them
	// Paused says why no job but conversions is done at this moment, "" where they
	// are; nil: always.
	Paused func() string
	// Learnt is told of images of which what was learnt was forgotten; nil: nobody is.
	Learnt    func(ctx context.Context, manifest digest.Digest)
	Logger    *slog.Logger                         // nil: nothing is logged
	Control   Control                              // nil: neither reload nor tokens
	Explain   Explain                              // nil: nothing is explained
	Immutable func(repo oci.Repo, tag string) bool // tags that always mean the same; nil: none
	Trusted   []TrustedKey                         // whose bundles may bring layers by their spans
	Health    func() []Health                      // of what is outside this process, for /readyz?verbose; nil: nothing
	// Namespaces tells how full the hosted namespaces are; nil: nobody is told.
	Namespaces func(ctx context.Context) ([]storage.NamespaceUse, error)
}

// Web answers the admin listener and the socket. It is safe for concurrent use.
type Web struct {
	opt Options
	log *slog.Logger
}

// New makes a Web.
func New(o Options) *Web {
	w := &Web{opt: o, log: o.Logger}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	return w
}

// Public is what the admin listener serves: /metrics, /healthz (the process
// answers) and /readyz (the store answers; never a matter of any upstream, whose
// state ?verbose tells besides).
func (s *Web) Public() http.Handler {
	m := mux.NewRouter()
	m.Path("/metrics").Handler(promhttp.HandlerFor(s.opt.Gatherer, promhttp.HandlerOpts{}))
	m.Path("/healthz").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.Path("/readyz").HandlerFunc(s.ready)
	m.Path("/").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "sociable: /metrics /healthz /readyz")
	})
	return m
}

// Local is what the socket serves. What takes long there ends with life.
func (s *Web) Local(life context.Context) http.Handler {
	m := mux.NewRouter().UseEncodedPath()
	get := m.Methods(http.MethodGet).Subrouter()
	get.Path("/readyz").HandlerFunc(s.ready)
	get.Path("/api/v1/indexes").Handler(oci.Handler(s.indexes))
	get.Path("/api/v1/indexes/{manifest}").Handler(oci.Handler(s.index))
	get.Path("/api/v1/image").Queries("name", "{name}").Handler(oci.Handler(s.facts))
	get.Path("/api/v1/complete").Handler(oci.Handler(s.complete))
	get.Path("/api/v1/explain").Handler(oci.Handler(s.explain))
	get.Path("/api/v1/stats").Handler(oci.Handler(s.stats))
	get.Path("/api/v1/learn").Queries("name", "{name}").Handler(oci.Handler(s.learned))
	get.Path("/api/v1/jobs").Handler(oci.Handler(s.jobs))
	get.Path("/api/v1/pins").Handler(oci.Handler(s.pins))
	get.Path("/api/v1/blocks").Handler(oci.Handler(s.blocks))
	post := m.Methods(http.MethodPost).Subrouter()
	post.Path("/api/v1/jobs/retry").Handler(s.changeJob(RetryJob))
	post.Path("/api/v1/jobs/cancel").Handler(s.changeJob(CancelJob))
	post.Path("/api/v1/jobs/clear").Handler(s.changeJob(ClearJob))
	post.Path("/api/v1/backfill").Handler(oci.Handler(s.backfill))
	post.Path("/api/v1/indexes/withdraw").Handler(oci.Handler(s.withdraw))
	post.Path("/api/v1/learn/reset").Handler(oci.Handler(s.resetLearned))
	post.Path("/api/v1/purge").Handler(oci.Handler(s.purge))
	post.Path("/api/v1/unblock").Handler(oci.Handler(s.unblock))
	post.Path("/api/v1/refresh").Handler(oci.Handler(s.refresh))
	post.Path("/api/v1/pin").Handler(oci.Handler(s.pin))
	post.Path("/api/v1/unpin").Handler(oci.Handler(s.unpin))
	post.Path("/api/v1/gc").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		return s.gc(life, w, r)
	}))
	post.Path("/api/v1/check").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		return s.check(life, w, r)
	}))
	post.Path("/api/v1/create").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		return s.create(life, w, r)
	}))
	s.uploadRoutes(get, post)
	s.eventRoutes(get, post)
	s.imageRoutes(life, m)
	s.controlRoutes(post)
	return m
}

func (s *Web) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.opt.Store.View(r.Context(), func(storage.Tx) error { return nil }); err != nil {
		s.log.ErrorContext(r.Context(), "not ready", "err", err)
		http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	if r.URL.Query().Has("verbose") && s.opt.Health != nil {
		sayHealth(w, s.opt.Health())
	}
}

func (s *Web) indexes(w http.ResponseWriter, r *http.Request) error {
	list, err := Indexes(r.Context(), s.opt.Store, s.offers())
	if err != nil {
		return err
	}
	return sendJSON(w, list)
}

func (s *Web) offers() Offers {
	if s.opt.Indexing == nil {
		return nil
	}
	return s.opt.Indexing.Offers
}

func (s *Web) index(w http.ResponseWriter, r *http.Request) error {
	d, err := oci.ParseDigest(mux.Vars(r)["manifest"])
	if err != nil {
		return err
	}
	one, err := IndexOf(r.Context(), s.opt.Store, d, s.offers())
	if errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeManifestUnknown, Message: fmt.Sprintf("no image %s has passed here", d), Err: err}
	}
	if err != nil {
		return err
	}
	return sendJSON(w, one)
}

func (s *Web) facts(w http.ResponseWriter, r *http.Request) error {
	f, err := FactsOf(r.Context(), s.opt.Store, r.URL.Query().Get("name"))
	if err != nil {
		return operatorError(err)
	}
	return sendJSON(w, f)
}

func sendJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that left is nobody's loss
	return nil
}

// Viewer is as much of a store as a look into it takes.
type Viewer interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
}
