package upstream

import (
	"crypto/tls"
	"log/slog"
	"sync"
	"time"
)

// CertificateNotice is how long before its end a client certificate is worth a
// warning.
const CertificateNotice = 14 * 24 * time.Hour

// shown is what we show an upstream that asks for a certificate. One that has
// ended, or soon will, is told once a day while it is in use: the upstream's own
// answer hardly ever says so.
type shown struct {
	certs []tls.Certificate
	log   *slog.Logger

	mu   sync.Mutex
	told time.Time
}

// choose is a tls.Config's GetClientCertificate.
func (s *shown) choose(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	for i := range s.certs {
		if r.SupportsCertificate(&s.certs[i]) == nil {
			s.tell(&s.certs[i], time.Now())
			return &s.certs[i], nil
		}
	}
	return &tls.Certificate{}, nil // none
}

func (s *shown) tell(c *tls.Certificate, now time.Time) {
	if c.Leaf == nil || now.Add(CertificateNotice).Before(c.Leaf.NotAfter) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.told) < 24*time.Hour {
		return
	}
	s.told = now
	until := c.Leaf.NotAfter.UTC()
	if now.After(until) {
		s.log.Error("the client certificate for the upstream has expired: replace the files and reload", "subject", c.Leaf.Subject.String(), "until", until)
		return
	}
	s.log.Warn("the client certificate for the upstream ends soon: replace the files and reload", "subject", c.Leaf.Subject.String(), "until", until)
}
