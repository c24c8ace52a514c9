package upstream

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// op is what is asked of an upstream, as the metrics and errors name it.
type op string

const (
	opPing         op = "ping"
	opToken        op = "token"
	opManifest     op = "manifest_get"
	opHeadManifest op = "manifest_head"
	opBlob         op = "blob_get"
	opHeadBlob     op = "blob_head"
	opReferrers    op = "referrers"
	opTags         op = "tags"
)

// metrics are one upstream's. What was registered before under the same
// upstream's name, by a client that this one replaces, is counted on.
type metrics struct {
	requests *prometheus.CounterVec   // op, code
	latency  *prometheus.HistogramVec // op
	bytes    prometheus.Counter
	retries  prometheus.Counter
	resumes  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, upstream string) (*metrics, error) {
	labels := prometheus.Labels{"upstream": upstream}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "sociable_upstream_" + name, Help: help, ConstLabels: labels}
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(counter("requests_total",
			"Requests to the upstream, by what was asked and the answer's status; error: no answer; canceled: nobody waited any more."),
			[]string{"op", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "sociable_upstream_request_duration_seconds",
			Help:        "Time from a request to the headers of its answer, redirects included.",
			ConstLabels: labels,
			Buckets:     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"op"}),
		bytes:   prometheus.NewCounter(counter("bytes_total", "Bytes of bodies read from the upstream.")),
		retries: prometheus.NewCounter(counter("retries_total", "Requests that were repeated after a failure.")),
		resumes: prometheus.NewCounter(counter("resumes_total", "Blob transfers that were taken up again midway.")),
	}
	if reg == nil {
		return m, nil
	}
	err := errors.Join(
		register(reg, &m.requests), register(reg, &m.latency),
		register(reg, &m.bytes), register(reg, &m.retries), register(reg, &m.resumes))
	return m, err
}

// register registers *c, or replaces it by the equal one registered before.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	if dup, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, same := dup.ExistingCollector.(C); same {
			*c = old
			return nil
		}
	}
	return err
}

// answered counts a request that was answered.
func (m *metrics) answered(o op, status int, since time.Time) {
	code := "other"
	if http.StatusText(status) != "" { // an upstream must not make label values up
		code = strconv.Itoa(status)
	}
	m.requests.WithLabelValues(string(o), code).Inc()
	m.latency.WithLabelValues(string(o)).Observe(time.Since(since).Seconds())
}

// failed counts a request without an answer.
func (m *metrics) failed(o op, canceled bool) {
	code := "error"
	if canceled {
		code = "canceled"
	}
	m.requests.WithLabelValues(string(o), code).Inc()
}
