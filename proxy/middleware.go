package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/sociable/sociable/internal/oci"
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
	route, repo, upstream, reference, digest string
	cache                                    outcome
	err                                      error // behind a body that was cut short
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
	a := &access{route: "unknown"}
	r = r.WithContext(context.WithValue(r.Context(), accessKey{}, a))
	h := w.Header()
	h.Set("X-Request-Id", id)
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	rec := &oci.Recorder{ResponseWriter: w}
	defer func() { p.line(r, id, a, rec, time.Since(start)) }()
	next.ServeHTTP(rec, r)
}

func (p *Proxy) line(r *http.Request, id string, a *access, rec *oci.Recorder, dur time.Duration) {
	status := rec.Status
	if status == 0 {
		status = http.StatusOK
	}
	p.metrics.requests.WithLabelValues(a.route, r.Method, strconv.Itoa(status/100)+"xx", a.cache.String()).Inc()
	p.metrics.duration.WithLabelValues(a.route).Observe(dur.Seconds())
	p.metrics.sent.WithLabelValues(a.route, a.cache.String()).Add(float64(rec.Bytes))
	attrs := []slog.Attr{
		slog.String("req", id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", status), slog.Int64("bytes", rec.Bytes), slog.Duration("dur", dur),
		slog.String("client", r.RemoteAddr),
	}
	for _, x := range []struct{ k, v string }{
		{"upstream", a.upstream}, {"repo", a.repo}, {"ref", a.reference}, {"digest", a.digest},
		{"cache", a.cache.String()}, {"range", r.Header.Get("Range")},
	} {
		if x.v != "" {
			attrs = append(attrs, slog.String(x.k, x.v))
		}
	}
	level := slog.LevelInfo
	if err := errors.Join(rec.Err, a.err); err != nil {
		attrs = append(attrs, slog.Any("err", err))
		var gone clientError
		if status >= http.StatusInternalServerError || (a.err != nil && !errors.As(a.err, &gone)) {
			level = slog.LevelWarn
		}
	}
	p.log.LogAttrs(r.Context(), level, "request", attrs...)
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
