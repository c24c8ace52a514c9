package proxy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the /v2 surface. Labels are closed sets: route names, GET, HEAD
// and other methods, status classes, cache outcomes, configured upstreams.
type metrics struct {
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	sent          *prometheus.CounterVec
	upstreamBytes prometheus.Counter
	mismatches    *prometheus.CounterVec
	passed        prometheus.Counter
	warm          *prometheus.CounterVec
	warmSpans     prometheus.Counter
}

// What became of an image of which spans were to be brought before a start.
const warmDone, warmFailed, warmRefused = "done", "failed", "refused"

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_proxy_requests_total", Help: "Requests by route, method, status class and where the answer came from: hit, the store; follow, a fetch that another request began; span, spans of an indexed layer; miss, the upstream.",
		}, []string{"route", "method", "code", "cache"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sociable_proxy_request_duration_seconds", Help: "Time from request to the end of the answer.",
			Buckets:                     prometheus.ExponentialBuckets(0.0005, 4, 9),
			NativeHistogramBucketFactor: 1.1,
		}, []string{"route"}),
		sent: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_proxy_sent_bytes_total", Help: "Body bytes sent to clients, by where they came from, as requests have it.",
		}, []string{"route", "cache"}),
		upstreamBytes: f.NewCounter(prometheus.CounterOpts{
			Name: "sociable_proxy_upstream_bytes_total", Help: "Blob bytes taken from upstreams.",
		}),
		mismatches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_proxy_digest_mismatches_total", Help: "Blobs or spans that an upstream sent and whose bytes did not match their digest. Where some of them were here from before, nobody can tell whose fault it is: that is logged, and not counted.",
		}, []string{"upstream"}),
		passed: f.NewCounter(prometheus.CounterOpts{
			Name: "sociable_proxy_passed_through_total", Help: "Blobs sent without being kept, because the store had no room or failed.",
		}),
		warm: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_proxy_warmed_starts_total", Help: "Times that missing spans which a start will read were brought before it asked for them, failed to be, or were refused because too many were.",
		}, []string{"result"}),
		warmSpans: f.NewCounter(prometheus.CounterOpts{
			Name: "sociable_proxy_warmed_spans_total", Help: "Spans that were missing and were brought before a start asked for them.",
		}),
	}
}
