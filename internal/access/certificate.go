package access

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
)

// NameOf says which part of a client's certificate is its name.
type NameOf string

// The parts of a certificate that can be its name.
const (
	NameSubject NameOf = "subject" // its common name
	NameDNS     NameOf = "dns"     // the first of its alternative names of that kind
	NameEmail   NameOf = "email"
	NameURI     NameOf = "uri"
)

// Of is c's name, or "" where it has none of that kind.
func (n NameOf) Of(c *x509.Certificate) string { return n.name(c) }

// name is c's name, or "" where it has none of that kind.
func (n NameOf) name(c *x509.Certificate) string {
	first := func(s []string) string {
		if len(s) == 0 {
			return ""
		}
		return s[0]
	}
	switch n {
	case NameDNS:
		return first(c.DNSNames)
	case NameEmail:
		return first(c.EmailAddresses)
	case NameURI:
		if len(c.URIs) == 0 {
			return ""
		}
		return c.URIs[0].String()
	default:
		return c.Subject.CommonName
	}
}

// byCertificate is whom a certificate names that the handshake verified. Its
// organisations are groups.
func (a *Access) byCertificate(s *tls.ConnectionState) (Identity, bool) {
	if s == nil || len(s.VerifiedChains) == 0 {
		return Identity{}, false
	}
	leaf := s.VerifiedChains[0][0]
	name := a.policy.Load().CertificateName.name(leaf)
	return Identity{Name: name, Groups: leaf.Subject.Organization, Via: ViaCertificate}, name != ""
}

// byConnection is who asks where the request itself does not say.
func (a *Access) byConnection(r *http.Request) Identity {
	if id, ok := a.byCertificate(r.TLS); ok {
		return id
	}
	return Identity{Via: ViaNobody}
}
