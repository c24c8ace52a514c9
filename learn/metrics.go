package learn

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	starts  *prometheus.CounterVec
	asks    *prometheus.CounterVec
	dropped prometheus.Counter
	rounds  prometheus.Counter
	watched prometheus.Gauge
}

const (
	startCounted, startOffered, startIgnored = "counted", "offered", "ignored"

	askLearned, askSampled, askNothing = "learned", "sampled", "nothing"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_learn_starts_total", Help: "Starts of images by lazily loading clients that were seen, by whether they count, were offered what was learnt, or are ignored: of a caller who counted in this round, or of nearly all of the image.",
		}, []string{"kind"}),
		asks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_learn_offers_total", Help: "Clients that asked for a SOCI v1 index, by whether they were offered what was learnt, were left out to see what starts read, or nothing was learnt.",
		}, []string{"offer"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sociable_learn_dropped_total", Help: "Requests and starts that were not watched for want of room.",
		}),
		rounds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sociable_learn_rounds_total", Help: "Times that what was learnt of an image has changed.",
		}),
		watched: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sociable_learn_watched", Help: "Starts that are being watched.",
		}),
	}
	for _, k := range []string{startCounted, startOffered, startIgnored} {
		m.starts.WithLabelValues(k)
	}
	for _, k := range []string{askLearned, askSampled, askNothing} {
		m.asks.WithLabelValues(k)
	}
	if reg != nil {
		reg.MustRegister(m.starts, m.asks, m.dropped, m.rounds, m.watched)
	}
	return m
}

func (m *metrics) offered(learned, chosen bool) {
	switch {
	case chosen:
		m.asks.WithLabelValues(askLearned).Inc()
	case learned:
		m.asks.WithLabelValues(askSampled).Inc()
	default:
		m.asks.WithLabelValues(askNothing).Inc()
	}
}
