package access

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

// How a login with a password ended.
const (
	loginRight   = "right"
	loginWrong   = "wrong"
	loginDelayed = "delayed" // after too many wrong ones
)

type metrics struct {
	logins    *prometheus.CounterVec
	decisions *prometheus.CounterVec
	tokens    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const ns, sub = "sociable", "access"
	m := &metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "logins_total", Help: "Passwords that were checked, by how that ended.",
		}, []string{"result"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "decisions_total", Help: "Decisions about who may do what, by action and decision.",
		}, []string{"action", "decision"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "tokens_total", Help: "Tokens that were given out, by how their holder was known.",
		}, []string{"via"}),
	}
	for _, v := range []string{loginRight, loginWrong, loginDelayed} {
		m.logins.WithLabelValues(v) // so that a rate exists from the start
	}
	if reg != nil {
		reg.MustRegister(m.logins, m.decisions, m.tokens)
	}
	return m
}

func (m *metrics) login(result string) { m.logins.WithLabelValues(result).Inc() }

func (m *metrics) decision(action oci.Action, decision string) {
	m.decisions.WithLabelValues(string(action), decision).Inc()
}
