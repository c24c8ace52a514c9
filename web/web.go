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
	Store    *storage.Store
	Gatherer prometheus.Gatherer
	Logger   *slog.Logger // nil: nothing is logged
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
// answers) and /readyz (the store answers; never a matter of any upstream).
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

// Local is what the socket serves.
func (s *Web) Local() http.Handler {
	m := mux.NewRouter().UseEncodedPath()
	get := m.Methods(http.MethodGet).Subrouter()
	get.Path("/api/v1/indexes").Handler(oci.Handler(s.indexes))
	get.Path("/api/v1/indexes/{manifest}").Handler(oci.Handler(s.index))
	m.Path("/api/v1/purge").Methods(http.MethodPost).Handler(oci.Handler(s.purge))
	return m
}

func (s *Web) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.opt.Store.View(r.Context(), func(storage.Tx) error { return nil }); err != nil {
		s.log.ErrorContext(r.Context(), "not ready", "err", err)
		http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *Web) indexes(w http.ResponseWriter, r *http.Request) error {
	list, err := Indexes(r.Context(), s.opt.Store)
	if err != nil {
		return err
	}
	return sendJSON(w, list)
}

func (s *Web) index(w http.ResponseWriter, r *http.Request) error {
	d, err := oci.ParseDigest(mux.Vars(r)["manifest"])
	if err != nil {
		return err
	}
	one, err := IndexOf(r.Context(), s.opt.Store, d)
	if errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeManifestUnknown, Message: fmt.Sprintf("no image %s has passed here", d), Err: err}
	}
	if err != nil {
		return err
	}
	return sendJSON(w, one)
}

func (s *Web) purge(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Digest digest.Digest `json:"digest"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&req); err != nil {
		return &oci.Error{Code: errcode.ErrorCodeDigestInvalid, Message: `want {"digest": "sha256:..."}`, Err: err}
	}
	d, err := oci.ParseDigest(req.Digest.String())
	if err != nil {
		return err
	}
	freed, err := s.opt.Store.Purge(r.Context(), d)
	if errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeBlobUnknown, Message: fmt.Sprintf("no bytes of %s are stored here", d), Err: err}
	}
	if err != nil {
		return err
	}
	s.log.InfoContext(r.Context(), "purged", "digest", d, "bytes", freed)
	return sendJSON(w, map[string]int64{"freed": freed})
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
