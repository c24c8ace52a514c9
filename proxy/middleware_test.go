package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// lister is an upstream that lists tags, and does nothing else.
type lister struct {
	Registry
	list func(ctx context.Context, n int) ([]string, error)
}

func (l lister) Tags(ctx context.Context, _ string, n int, _ string) ([]string, bool, error) {
	list, err := l.list(ctx, n)
	return list, true, err
}

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// requests gives the access lines.
func (l *lines) requests(t *testing.T) (out []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.buf.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if m["msg"] == "request" {
			out = append(out, m)
		}
	}
	return out
}

// TestMethodLabel holds that no client makes series by inventing methods.
func TestMethodLabel(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newServer(t, newRegistry(t), func(o *Options) { o.Registerer = reg })
	for _, m := range []string{"GET", "HEAD", "PUT", "X1", "X2", "X3"} {
		s.p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(m, "/v2/", nil))
	}
	want := `
# HELP sociable_proxy_requests_total Requests by route, method, status class and where the answer came from: hit, the store; follow, a fetch that another request began; span, spans of an indexed layer; miss, the upstream.
# TYPE sociable_proxy_requests_total counter
sociable_proxy_requests_total{cache="",code="2xx",method="GET",route="base"} 1
sociable_proxy_requests_total{cache="",code="2xx",method="HEAD",route="base"} 1
sociable_proxy_requests_total{cache="",code="4xx",method="other",route="unknown"} 4
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sociable_proxy_requests_total"); err != nil {
		t.Error(err)
	}
}

// TestLine holds the access line of requests that do not end well.
func TestLine(t *testing.T) {
	tests := []struct {
		name   string
		list   func(ctx context.Context, leave func()) error
		status int
		level  string
		class  string
		err    string // within the line's
		stack  bool
		panics bool
	}{
		{name: "well", list: func(context.Context, func()) error { return nil }, status: 200, level: "INFO", class: "2xx"},
		{name: "panic", list: func(context.Context, func()) error { panic("a bug") },
			status: 500, level: "ERROR", class: "5xx", err: "panic: a bug", stack: true, panics: true},
		{name: "aborted", list: func(context.Context, func()) error { panic(http.ErrAbortHandler) },
			status: 200, level: "WARN", class: "2xx", err: "broken off", panics: true},
		{name: "upstream away", list: func(context.Context, func()) error {
			return &upstream.UnreachableError{Upstream: "up", Err: context.Canceled}
		},
			status: 503, level: "WARN", class: "5xx", err: "unreachable"},
		{name: "client left", list: func(ctx context.Context, leave func()) error { leave(); <-ctx.Done(); return ctx.Err() },
			status: 499, level: "INFO", class: "4xx", err: "canceled"},
		{name: "shut down", list: func(context.Context, func()) error { return context.Canceled }, status: 503, level: "WARN", class: "5xx", err: "canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var log lines
			reg := prometheus.NewRegistry()
			s := newServer(t, newRegistry(t), func(o *Options) {
				o.Logger, o.Registerer = slog.New(slog.NewJSONHandler(&log, nil)), reg
				o.Upstreams[0].Registry = lister{list: func(ctx context.Context, _ int) ([]string, error) { return nil, tt.list(ctx, leave) }}
			})
			func() {
				defer func() {
					if fault := recover(); (fault != nil) != tt.panics {
						t.Errorf("panicked with %v", fault)
					}
				}()
				s.p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/v2/up/a/tags/list", nil))
			}()
			got := log.requests(t)
			if len(got) != 1 {
				t.Fatalf("%d lines, want 1", len(got))
			}
			line := got[0]
			if line["status"] != float64(tt.status) || line["level"] != tt.level {
				t.Errorf("status %v, level %v; want %d, %s", line["status"], line["level"], tt.status, tt.level)
			}
			if err, _ := line["err"].(string); (tt.err == "") != (err == "") || !strings.Contains(err, tt.err) {
				t.Errorf("err %q, want %q in it", err, tt.err)
			}
			if stack, _ := line["stack"].(string); strings.Contains(stack, "middleware_test.go") != tt.stack {
				t.Errorf("stack %q", stack)
			}
			p := s.p.metrics.requests
			labels := []string{"tags", "GET", tt.class, text(line["cache"])}
			if n := testutil.ToFloat64(p.WithLabelValues(labels...)); n != 1 {
				t.Errorf("%v requests counted as %v, want 1", n, labels)
			}
		})
	}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// TestCutBodyLine holds that a body cut half-way does not look like a success.
func TestCutBodyLine(t *testing.T) {
	var log lines
	s := newServer(t, newRegistry(t), func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	late := oci.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return fmt.Errorf("found out too late")
	})
	func() {
		defer func() { _ = recover() }()
		s.p.observe(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil), late)
	}()
	got := log.requests(t)
	if len(got) != 1 || got[0]["level"] != "WARN" || got[0]["status"] != 200.0 || got[0]["err"] != "found out too late" {
		t.Errorf("lines %v", got)
	}
}

// deadlines is a client's connection that counts.
type deadlines struct {
	*httptest.ResponseRecorder
	set, taken int
	unbounded  bool // something was sent without a deadline
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	if at.IsZero() {
		d.taken++
	} else {
		d.set++
	}
	return nil
}

func (d *deadlines) WriteHeader(status int) {
	d.unbounded = d.unbounded || d.set == 0
	d.ResponseRecorder.WriteHeader(status)
}

// TestWriteDeadline holds that no answer waits for ever for its client to read.
func TestWriteDeadline(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	d := g.addBlob("a", random(1000, 1))
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, digest.FromString("x"), 1))
	for _, path := range []string{"", "up/a/manifests/v1", "up/a/manifests/none", "up/a/tags/list", "up/a/blobs/" + d.String(), "up/a/referrers/" + d.String()} {
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
			s.p.ServeHTTP(w, httptest.NewRequest(method, "/v2/"+path, nil))
			if w.unbounded || w.set == 0 || w.taken != 1 {
				t.Errorf("%s /v2/%s: sent without a deadline %t, %d set, %d taken off", method, path, w.unbounded, w.set, w.taken)
			}
		}
	}
}

func TestAllow(t *testing.T) {
	s := newServer(t, newRegistry(t), nil)
	for _, path := range []string{"/v2/", "/v2/up/a/manifests/v1", "/v2/up/a/tags/list", "/v2/_catalog"} {
		a := s.do(t, "PUT", path)
		if got := a.header.Get("Allow"); a.status != 405 || got != "GET, HEAD" {
			t.Errorf("PUT %s: status %d, Allow %q", path, a.status, got)
		}
	}
}

func TestTagsNumber(t *testing.T) {
	for _, tt := range []struct{ query, body, link string }{
		{"", `{"name":"up/a","tags":["x","y"]}`, `</v2/up/a/tags/list?last=y&n=2>; rel="next"`},
		{"?n=1", `{"name":"up/a","tags":["x"]}`, `</v2/up/a/tags/list?last=x&n=1>; rel="next"`},
		{"?n=0", `{"name":"up/a","tags":[]}`, ""},
	} {
		s := newServer(t, newRegistry(t), func(o *Options) {
			o.Upstreams[0].Registry = lister{list: func(_ context.Context, n int) ([]string, error) {
				if n < 0 || n > 2 {
					n = 2
				}
				return []string{"x", "y"}[:n], nil
			}}
		})
		a := s.do(t, "GET", "/v2/up/a/tags/list"+tt.query)
		if a.status != 200 || string(a.body) != tt.body || a.header.Get("Link") != tt.link {
			t.Errorf("%q: %d %s, Link %q", tt.query, a.status, a.body, a.header.Get("Link"))
		}
	}
}
