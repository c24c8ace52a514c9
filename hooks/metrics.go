package hooks

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	queued   prometheus.Counter
	ignored  prometheus.Counter
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer) *metrics {
	const ns, sub = "sociable", "hooks"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "requests_total",
			Help: "Notifications of upstreams, by format (none: not understood, or not let in) and status.",
		}, []string{"format", "code"}),
		queued: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "queued_total", Help: "Pushes to upstreams that were filed to be looked at.",
		}),
		ignored: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "ignored_total", Help: "Events that need nothing: no pushes, of no image that a rule wants, or filed already.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.queued, m.ignored)
	}
	return m
}

func (m *metrics) count(format string, status int) {
	if format == "" {
		format = "none"
	}
	m.requests.WithLabelValues(format, strconv.Itoa(status)).Inc()
}
