package upstream

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
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
	opCatalog      op = "catalog"
	opPushBlob     op = "blob_push"
	opMountBlob    op = "blob_mount"
	opPushManifest op = "manifest_push"

	opDeleteManifest op = "manifest_delete"
)

// pushes reports an op that needs the right to push.
func (o op) pushes() bool { return o == opPushBlob || o == opMountBlob || o == opPushManifest }

// metrics are one upstream's. What was registered before under the same
// upstream's name, by a client that this one replaces, is counted on.
type metrics struct {
	requests *prometheus.CounterVec   // op, code
	latency  *prometheus.HistogramVec // op
	bytes    prometheus.Counter
	retries  prometheus.Counter
	resumes  prometheus.Counter

	failovers prometheus.Counter
	held      prometheus.Counter
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

			NativeHistogramBucketFactor: 1.1,
		}, []string{"op"}),
		bytes:   prometheus.NewCounter(counter("bytes_total", "Bytes of bodies read from the upstream.")),
		retries: prometheus.NewCounter(counter("retries_total", "Requests that were repeated after a failure.")),
		resumes: prometheus.NewCounter(counter("resumes_total", "Blob transfers that were taken up again midway.")),
		failovers: prometheus.NewCounter(counter("failovers_total",
			"Requests that went on to the upstream's next endpoint.")),
		held: prometheus.NewCounter(counter("budget_refused_total",
			"Requests that were not sent because the requests a minute were spent.")),
	}
	if reg == nil {
		return m, nil
	}
	err := errors.Join(
		register(reg, &m.requests), register(reg, &m.latency),
		register(reg, &m.bytes), register(reg, &m.retries), register(reg, &m.resumes),
		register(reg, &m.failovers), register(reg, &m.held))
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

// endpointMetrics are one endpoint's.
type endpointMetrics struct {
	breaker   prometheus.Gauge
	heldUntil prometheus.Gauge
	refused   prometheus.Counter
	limit     *saidGauge
	remaining *saidGauge
	window    *saidGauge
}

func newEndpointMetrics(reg prometheus.Registerer, upstream, endpoint string) (*endpointMetrics, error) {
	labels := prometheus.Labels{"upstream": upstream, "endpoint": endpoint}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "sociable_upstream_" + name, Help: help, ConstLabels: labels})
	}
	m := &endpointMetrics{
		breaker: gauge("breaker_state", "Whether the endpoint is asked: 0 yes, 1 one request finds out, 2 no, it does not answer."),
		heldUntil: gauge("held_until_timestamp_seconds",
			"Until when nothing is asked because the endpoint wanted a pause (Unix time); 0: it never did."),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sociable_upstream_refused_total", ConstLabels: labels,
			Help: "Requests that were not sent because the endpoint does not answer or wanted a pause.",
		}),
		limit:     &saidGauge{Gauge: gauge("ratelimit_limit", "Pulls that the endpoint says it allows in its window (RateLimit-Limit); absent where it says nothing.")},
		remaining: &saidGauge{Gauge: gauge("ratelimit_remaining", "Pulls that the endpoint says are left (RateLimit-Remaining); absent where it says nothing.")},
		window:    &saidGauge{Gauge: gauge("ratelimit_window_seconds", "The window of ratelimit_limit; absent where the endpoint does not say it.")},
	}
	if reg == nil {
		return m, nil
	}
	err := errors.Join(register(reg, &m.breaker), register(reg, &m.heldUntil), register(reg, &m.refused),
		register(reg, &m.limit), register(reg, &m.remaining), register(reg, &m.window))
	return m, err
}

// rateLimit exports what an answer says about the endpoint's own limits, as
// Docker Hub does (docs.docker.com, "Docker Hub usage and limits").
func (m *endpointMetrics) rateLimit(h http.Header) {
	if n, window, ok := parseRateLimit(h.Get("RateLimit-Limit")); ok {
		m.limit.say(n)
		m.window.say(window)
	}
	if n, _, ok := parseRateLimit(h.Get("RateLimit-Remaining")); ok {
		m.remaining.say(n)
	}
}

// saidGauge is absent while the endpoint does not say what it is.
type saidGauge struct {
	prometheus.Gauge
	said atomic.Bool
}

// say sets it; -1 says that it is not known.
func (g *saidGauge) say(n int64) {
	g.Set(float64(n))
	g.said.Store(n >= 0)
}

// Collect implements prometheus.Collector.
func (g *saidGauge) Collect(ch chan<- prometheus.Metric) {
	if g.said.Load() {
		g.Gauge.Collect(ch)
	}
}

// limitSpent reports an endpoint that says that nothing is left of its limit.
func limitSpent(h http.Header) bool {
	n, _, ok := parseRateLimit(h.Get("RateLimit-Remaining"))
	return ok && n == 0
}

// limitWindow is how long it takes at most until an endpoint's limit begins anew,
// as it says: the least of the limit's windows and RateLimit-Reset, which is in
// seconds. 0: it does not say.
func limitWindow(h http.Header) (d time.Duration) {
	_, a, _ := parseRateLimit(h.Get("RateLimit-Remaining"))
	_, b, _ := parseRateLimit(h.Get("RateLimit-Limit"))
	c, _, _ := parseRateLimit(h.Get("RateLimit-Reset"))
	for _, s := range []int64{a, b, c} {
		if w := time.Duration(min(s, int64(maxHold/time.Second))) * time.Second; w > 0 && (d == 0 || w < d) {
			d = w
		}
	}
	return d
}

// parseRateLimit reads "100;w=21600": a number, and its window in seconds, -1
// where it has none.
func parseRateLimit(s string) (n, window int64, ok bool) {
	num, params, _ := strings.Cut(s, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
	if err != nil || n < 0 {
		return 0, 0, false
	}
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if w, err := strconv.ParseInt(v, 10, 64); err == nil && k == "w" && w >= 0 {
			return n, w, true
		}
	}
	return n, -1, true
}
