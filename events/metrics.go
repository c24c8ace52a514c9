package events

import "github.com/prometheus/client_golang/prometheus"

// How sending an envelope ended.
const (
	resultTaken  = "taken"
	resultFailed = "failed"
)

type metrics struct {
	posts   *prometheus.CounterVec
	events  *prometheus.CounterVec
	dropped *prometheus.CounterVec
	reg     prometheus.Registerer
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer) *metrics {
	const ns, sub = "sociable", "events"
	m := &metrics{
		reg: reg,
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "posts_total",
			Help: "Envelopes that were sent to an endpoint, by how that ended.",
		}, []string{"endpoint", "result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "sent_total",
			Help: "Events that an endpoint has taken.",
		}, []string{"endpoint"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "dropped_total",
			Help: "Pulls and evictions that an endpoint is never told of, because too many events wait.",
		}, []string{"endpoint"}),
	}
	if reg != nil {
		reg.MustRegister(m.posts, m.events, m.dropped)
	}
	return m
}

// endpoint has the series of e exist from the start.
func (m *metrics) endpoint(e *endpoint) {
	m.posts.WithLabelValues(e.Name, resultTaken)
	m.posts.WithLabelValues(e.Name, resultFailed)
	m.events.WithLabelValues(e.Name)
	m.dropped.WithLabelValues(e.Name)
	if m.reg == nil {
		return
	}
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sociable", Subsystem: "events", Name: "queued",
		Help: "Events that wait for an endpoint, about.", ConstLabels: prometheus.Labels{"endpoint": e.Name},
	}, func() float64 { return float64(e.queued.Load()) }))
}

func (m *metrics) sent(e *endpoint, events int) {
	m.posts.WithLabelValues(e.Name, resultTaken).Inc()
	m.events.WithLabelValues(e.Name).Add(float64(events))
}

func (m *metrics) failed(e *endpoint) { m.posts.WithLabelValues(e.Name, resultFailed).Inc() }
