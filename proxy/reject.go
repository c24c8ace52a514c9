package proxy

import "github.com/opencontainers/go-digest"

// Rejecter is a Registry of several servers, which is told when the bytes of a
// blob were wrong, so that another one is asked next; *upstream.Client is one.
type Rejecter interface{ Reject(d digest.Digest) }

// reject counts wrong bytes of d, and has the upstream ask somebody else.
func (p *Proxy) reject(up *Upstream, d digest.Digest) {
	p.metrics.mismatches.WithLabelValues(up.Name).Inc()
	p.doubt(up, d)
}

// doubt has the upstream ask somebody else for d.
func (p *Proxy) doubt(up *Upstream, d digest.Digest) {
	if r, ok := up.Registry.(Rejecter); ok {
		r.Reject(d)
	}
}
