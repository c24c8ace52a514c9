package referrers

import "github.com/prometheus/client_golang/prometheus"

// How asking the upstream ended.
const (
	resultOK      = "ok"
	resultTimeout = "timeout"
	resultError   = "error"
)

// Whose SOCI index a list had.
const (
	sociOurs     = "ours"
	sociUpstream = "upstream"
	sociNone     = "none"
)

type metrics struct {
	held     prometheus.Counter
	waited   prometheus.Histogram
	lists    *prometheus.CounterVec
	upstream *prometheus.CounterVec
	stale    prometheus.Counter
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer) *metrics {
	const ns, sub = "sociable", "referrers"
	m := &metrics{
		lists: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "lists_total",
			Help: "Lists of referrers that were served, by whose SOCI index they had.",
		}, []string{"soci"}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "upstream_requests_total",
			Help: "Questions to upstreams for referrers, by how they ended.",
		}, []string{"result"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "stale_lists_total",
			Help: "Lists that had an upstream's referrers as they last were, since it could not be asked.",
		}),
	}
	m.held = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: ns, Subsystem: sub, Name: "held_total",
		Help: "Clients that were told to ask again for a SOCI index that was about to be listed.",
	})
	m.waited = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: ns, Subsystem: sub, Name: "wait_duration_seconds",
		Help:    "How long an answer was kept back because a SOCI index was about to be listed.",
		Buckets: []float64{.05, .1, .25, .5, 1, 1.5, 2, 2.5}, NativeHistogramBucketFactor: 1.1,
	})
	for _, v := range []string{sociOurs, sociUpstream, sociNone} {
		m.lists.WithLabelValues(v)
	}
	for _, v := range []string{resultOK, resultTimeout, resultError} {
		m.upstream.WithLabelValues(v)
	}
	if reg != nil {
		reg.MustRegister(m.held, m.waited, m.lists, m.upstream, m.stale)
	}
	return m
}

func (s *Referrers) count(soci, ours bool) {
	v := sociNone
	switch {
	case soci && ours:
		v = sociOurs
	case soci:
		v = sociUpstream
	}
	s.m.lists.WithLabelValues(v).Inc()
}
