package events

import "github.com/prometheus/client_golang/prometheus"

// How sending an envelope ended.
const (
	resultTaken  = "taken"
	resultFailed = "failed"
)

type metrics struct {
	posts    *prometheus.CounterVec
	events   *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	refusals *prometheus.CounterVec
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer) *metrics {
	const ns, sub = "sociable", "events"
	m := &metrics{
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
			Help: "Events that an endpoint is never told of: pulls and evictions, because too many wait, and the oldest of more than a thousand that it refused.",
		}, []string{"endpoint"}),
	}
	m.refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: ns, Subsystem: sub, Name: "refused_total",
		Help: "Events that were set aside because an endpoint refuses them (400, 413 or 422).",
	}, []string{"endpoint"})
	if reg != nil {
		reg.MustRegister(m.posts, m.events, m.dropped, m.refusals)
	}
	return m
}

// endpoint has the series of e exist from the start.
func (m *metrics) endpoint(e *endpoint) {
	m.posts.WithLabelValues(e.Name, resultTaken)
	m.posts.WithLabelValues(e.Name, resultFailed)
	m.events.WithLabelValues(e.Name)
	m.dropped.WithLabelValues(e.Name)
	m.refusals.WithLabelValues(e.Name)
}

// queues shows how long the queues are.
type queues struct{ x *Events }

var (
	descQueued   = prometheus.NewDesc("sociable_events_queued", "Events that wait for an endpoint, about.", []string{"endpoint"}, nil)
	descSetAside = prometheus.NewDesc("sociable_events_set_aside",
		"Events that an endpoint refused and that can be sent again (sociable events retry), about.", []string{"endpoint"}, nil)
)

func (q queues) Describe(ch chan<- *prometheus.Desc) {
	ch <- descQueued
	ch <- descSetAside
}

func (q queues) Collect(ch chan<- prometheus.Metric) {
	for _, e := range q.x.endpoints {
		ch <- prometheus.MustNewConstMetric(descQueued, prometheus.GaugeValue, float64(max(0, e.queued.Load())), e.Name)
		ch <- prometheus.MustNewConstMetric(descSetAside, prometheus.GaugeValue, float64(e.aside.Load()), e.Name)
	}
}

func (m *metrics) sent(e *endpoint, events int) {
	m.posts.WithLabelValues(e.Name, resultTaken).Inc()
	m.events.WithLabelValues(e.Name).Add(float64(events))
}

func (m *metrics) refused(e *endpoint) { m.refusals.WithLabelValues(e.Name).Inc() }

func (m *metrics) failed(e *endpoint) { m.posts.WithLabelValues(e.Name, resultFailed).Inc() }
