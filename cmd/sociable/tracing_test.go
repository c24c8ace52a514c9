package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestTracing: a request and what it asks of an upstream are one trace, which the
// caller began and the upstream is not told of.
func TestTracing(t *testing.T) {
	var mu sync.Mutex
	var spans []*trace.Span
	collect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range in.GetResourceSpans() {
			for _, s := range r.GetScopeSpans() {
				spans = append(spans, s.GetSpans()...)
			}
		}
	}))
	defer collect.Close()
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	var told []string
	shelf := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		told = append(told, r.Header.Values("Traceparent")...)
		mu.Unlock()
		shelf.ServeHTTP(w, r)
	})
	config := append(readFile(t, s.config), fmt.Sprintf("tracing: {endpoint: %q, sample_percent: 1}\n", collect.URL+"/v1/traces")...)
	if err := os.WriteFile(s.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+srv.addr+"/v2/up/acme/app/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	if err := srv.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	srv.end(t)
	mu.Lock()
	defer mu.Unlock()
	var kinds []trace.Span_SpanKind
	for _, x := range spans {
		if fmt.Sprintf("%x", x.GetTraceId()) == "0af7651916cd43dd8448eb211c80319c" {
			kinds = append(kinds, x.GetKind())
		}
	}
	if !slices.Contains(kinds, trace.Span_SPAN_KIND_SERVER) || !slices.Contains(kinds, trace.Span_SPAN_KIND_CLIENT) {
		t.Errorf("spans of the caller's trace: %v, of %d in all", kinds, len(spans))
	}
	if len(told) > 0 {
		t.Errorf("the upstream was told of traces: %q", told)
	}
}
