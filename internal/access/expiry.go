package access

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How long before its end a certificate is worth a line in the log, and how often.
const (
	expiryNotice = 14 * 24 * time.Hour
	expiryEvery  = 24 * time.Hour
)

// Until is the end of the server's certificate; zero where there is none.
func (c *Certificates) Until() time.Time {
	if p := c.now.Load().pair; p != nil && p.Leaf != nil {
		return p.Leaf.NotAfter
	}
	return time.Time{}
}

// Register exports when the certificate ends; c may be nil, and has none then.
func (c *Certificates) Register(reg prometheus.Registerer) {
	if reg != nil {
		reg.MustRegister(expiry{c, prometheus.NewDesc("sociable_access_certificate_expiry_timestamp_seconds",
			"When the certificate out of tls.cert_file ends, as Unix time; absent where there is none.", nil, nil)})
	}
}

// expiry measures the end of a certificate that may be replaced.
type expiry struct {
	c    *Certificates
	desc *prometheus.Desc
}

// Describe is of prometheus.Collector.
func (e expiry) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

// Collect is of prometheus.Collector.
func (e expiry) Collect(ch chan<- prometheus.Metric) {
	if e.c == nil {
		return
	}
	if until := e.c.Until(); !until.IsZero() {
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(until.Unix()))
	}
}

// warn says once a day that the certificate ends soon, or has ended.
func (c *Certificates) warn() {
	until, now := c.Until(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.IsZero() || until.Sub(now) > expiryNotice || now.Sub(c.warned) < expiryEvery {
		return
	}
	c.warned = now
	if until.Before(now) {
		c.log.Error("the registry's certificate has expired, and clients refuse it: replace the files", "cert", c.cert, "key", c.key, "until", until.UTC())
		return
	}
	c.log.Warn("the registry's certificate ends soon: replace the files", "cert", c.cert, "key", c.key, "until", until.UTC())
}
