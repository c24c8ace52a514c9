package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// outcome says where an answer's bytes came from, best known first.
type outcome int

const (
	outcomeHit    outcome = iota + 1 // they were here
	outcomeFollow                    // another request was fetching them
	outcomeSpan                      // missing spans of an indexed layer were fetched
	outcomeMiss                      // they were fetched
)

var outcomeNames = [...]string{"", "hit", "follow", "span", "miss"}

func (o outcome) String() string { return outcomeNames[o] }

// access is what handlers add to their request's line in the log.
type access struct {
	id, route, repo, upstream, reference, digest string
	cache                                        outcome
	err                                          error  // behind a body that was cut short
	aborted                                      bool   // the answer was broken off
	stack                                        string // of a handler that panicked
}

type accessKey struct{}

// note gives the request's own access, to be filled in.
func note(r *http.Request) *access {
	if a, ok := r.Context().Value(accessKey{}).(*access); ok {
		return a
	}
	return &access{}
}

// outcome tells a person with curl, the log and the metrics what happened.
func (p *Proxy) outcome(w http.ResponseWriter, r *http.Request, o outcome) {
	w.Header().Set("X-Cache", o.String())
	note(r).cache = o
}

// observe wraps every request: an id, one line in the log, the metrics.
func (p *Proxy) observe(w http.ResponseWriter, r *http.Request, next http.Handler) {
	start := time.Now()
	id := requestID(r)
	a := &access{id: id, route: "unknown"}
	r = r.WithContext(context.WithValue(r.Context(), accessKey{}, a))
	h := w.Header()
	h.Set("X-Request-Id", id)
	h["Docker-Distribution-Api-Version"] = apiVersion
	out := newBounded(w)
	rec := &oci.Recorder{ResponseWriter: out}
	defer func() {
		fault := recover()
		if fault != nil {
			a.fell(fault)
		}
		p.line(r, id, a, rec, time.Since(start))
		if fault != nil {
			panic(fault) // net/http breaks the connection
		}
	}()
	next.ServeHTTP(rec, r)
	out.done()
}

func (p *Proxy) line(r *http.Request, id string, a *access, rec *oci.Recorder, dur time.Duration) {
	status, level, err := a.result(r, rec)
	if errors.Is(err, upstream.ErrOffline) {
		p.missed(r.Method, a)
	}
	p.metrics.requests.WithLabelValues(a.route, method(r), strconv.Itoa(status/100)+"xx", a.cache.String()).Inc()
	p.metrics.duration.WithLabelValues(a.route).Observe(dur.Seconds())
	p.metrics.sent.WithLabelValues(a.route, a.cache.String()).Add(float64(rec.Bytes))
	if !p.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("req", id), slog.String("method", r.Method), slog.String("path", oci.Clip(r.URL.Path, 1000)),
		slog.Int("status", status), slog.Int64("bytes", rec.Bytes), slog.Duration("dur", dur),
		slog.String("client", r.RemoteAddr),
	}
	for _, x := range []struct{ k, v string }{
		{"upstream", a.upstream}, {"repo", a.repo}, {"ref", a.reference}, {"digest", a.digest},
		{"cache", a.cache.String()}, {"range", oci.Clip(r.Header.Get("Range"), 200)},
	} {
		if x.v != "" {
			attrs = append(attrs, slog.String(x.k, x.v))
		}
	}
	if d, ok := p.opt.Access.(Door); ok {
		if who := d.Who(r); who != "" {
			attrs = append(attrs, slog.String("user", oci.Clip(who, 200)))
		}
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	if a.stack != "" {
		attrs = append(attrs, slog.String("stack", a.stack))
	}
	p.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// errAborted is behind an answer that was broken off without a reason given.
var errAborted = errors.New("the answer was broken off")

// statusLeft stands for the answer to a client that left before there was one,
// as in nginx's logs: it is no fault of the server.
const statusLeft = 499

// fell files what a handler panicked with.
func (a *access) fell(fault any) {
	if fault == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
		a.aborted = true
		return
	}
	a.stack = string(debug.Stack())
	a.err = errors.Join(a.err, fmt.Errorf("panic: %v", fault))
}

// result is the status and level of a request's line, and the fault behind it.
func (a *access) result(r *http.Request, rec *oci.Recorder) (int, slog.Level, error) {
	status := rec.Status
	if status == 0 {
		status = http.StatusOK
	}
	err := errors.Join(rec.Err, a.err)
	if err == nil && a.aborted {
		err = errAborted
	}
	var gone clientError
	left := errors.As(err, &gone) || r.Context().Err() != nil && errors.Is(err, context.Canceled)
	switch {
	case a.stack != "":
		return http.StatusInternalServerError, slog.LevelError, err
	case err == nil:
		return status, slog.LevelInfo, nil
	case left && rec.Err != nil && status == http.StatusServiceUnavailable:
		return statusLeft, slog.LevelInfo, err
	case !left && (a.aborted || a.err != nil || status >= http.StatusInternalServerError):
		return status, slog.LevelWarn, err
	}
	return status, slog.LevelInfo, err
}

// method is the label of a request's method. A client may send any word; the
// metrics keep few.
func method(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return r.Method
	}
	return "other"
}

// requestID takes over a caller's id if it is harmless, and makes one otherwise.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if len(id) == 0 || len(id) > 64 {
		return rand.Text()[:16]
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return rand.Text()[:16]
		}
	}
	return id
}
