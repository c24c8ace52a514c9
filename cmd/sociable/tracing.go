package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// TracingConfig is where spans of requests go. Without an endpoint nothing is
// traced, and nothing stands in the way of a request.
type TracingConfig struct {
	Endpoint      string `yaml:"endpoint"`       // URL of an OTLP/HTTP receiver
	SamplePercent int    `yaml:"sample_percent"` // of requests that do not come with a decision
}

func (t TracingConfig) enabled() bool { return t.Endpoint != "" }

func (c *Config) checkTracing(bad *findings) {
	t := c.Tracing
	if u, err := url.Parse(t.Endpoint); t.enabled() && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad.add(c.origin("tracing.endpoint"), "tracing.endpoint: %q is no URL; want one such as http://collector:4318/v1/traces", t.Endpoint)
	}
	if t.SamplePercent < 1 || t.SamplePercent > 100 {
		bad.add(c.origin("tracing.sample_percent"), "tracing.sample_percent: want 1 to 100")
	}
}

// startTracing has spans sent, until stop, which sends what is left.
func startTracing(ctx context.Context, t TracingConfig, log *slog.Logger) (stop func(), err error) {
	if !t.enabled() {
		return func() {}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.Endpoint), otlptracehttp.WithTimeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", t.Endpoint, err)
	}
	b := buildInfo()
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(t.SamplePercent)/100))),
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("sociable"), semconv.ServiceVersion(b.Version))),
	)
	otel.SetTracerProvider(provider)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces not sent", "err", err) }))
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("traces not sent", "err", err)
		}
	}, nil
}

// traceRequests has a span for each request, a part of its caller's trace.
func traceRequests(t TracingConfig, h http.Handler) http.Handler {
	if !t.enabled() {
		return h
	}
	return otelhttp.NewHandler(h, "registry", otelhttp.WithPropagators(propagation.TraceContext{}))
}

// traceUpstream has a span for each request to an upstream. The upstream is not
// told of it: traces are the operator's own.
func traceUpstream(t TracingConfig) func(http.RoundTripper) http.RoundTripper {
	if !t.enabled() {
		return nil
	}
	return func(rt http.RoundTripper) http.RoundTripper {
		return otelhttp.NewTransport(rt, otelhttp.WithTracerProvider(otel.GetTracerProvider()), otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()))
	}
}
