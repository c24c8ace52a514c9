package main

import (
	"crypto/tls"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/sociable/sociable/internal/access"
)

// secure is the registry's TLS. What a connection begins with is kept to its
// end; the next one has what was taken over meanwhile.
type secure struct {
	certs *access.Certificates // nil: ACME
	auth  tls.ClientAuthType
	now   atomic.Pointer[tls.Config]
	base  *tls.Config
	admin *secure // of the admin listener, where probes and scrapers have no certificate; nil: like the registry's
}

// buildTLS gives the configuration of listeners that speak TLS, or nil.
func buildTLS(cfg *Config, certs *access.Certificates) *secure {
	t := &cfg.TLS
	if !t.on() {
		return nil
	}
	auth := tls.NoClientCert
	if t.ClientCAFile != "" {
		auth = tls.VerifyClientCertIfGiven
	}
	if t.ClientAuth != "required" {
		return newSecure(cfg, certs, auth)
	}
	s := newSecure(cfg, certs, tls.RequireAndVerifyClientCert)
	s.admin = newSecure(cfg, certs, auth)
	return s
}

func newSecure(cfg *Config, certs *access.Certificates, auth tls.ClientAuthType) *secure {
	t := &cfg.TLS
	s := &secure{certs: certs, auth: auth, base: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}}
	if len(t.ACME.Domains) > 0 {
		m := &autocert.Manager{
			Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(t.ACME.Domains...), Email: t.ACME.Email,
			Cache: autocert.DirCache(filepath.Join(cfg.Storage.Path, "acme")),
		}
		if t.ACME.DirectoryURL != "" {
			m.Client = &acme.Client{DirectoryURL: t.ACME.DirectoryURL, UserAgent: "sociable/" + buildInfo().Version}
		}
		s.base.GetCertificate = m.GetCertificate
		s.base.NextProtos = append(s.base.NextProtos, acme.ALPNProto)
	} else {
		s.base.GetCertificate = certs.Certificate
	}
	s.renew()
	s.base = s.base.Clone()
	challenged := s.base.Clone() // an authority that looks whether we are here shows no certificate
	s.base.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(t.ACME.Domains) > 0 && len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == acme.ALPNProto {
			return challenged, nil
		}
		return s.now.Load(), nil
	}
	return s
}

// renew makes what is in the files count for new connections. Sessions of
// before can't be resumed: they may be of clients that are not let in any more.
func (s *secure) renew() {
	c := s.base.Clone()
	c.GetConfigForClient = nil
	c.ClientAuth = s.auth
	if s.certs != nil {
		c.ClientCAs = s.certs.Clients()
	}
	s.now.Store(c)
	if s.admin != nil {
		s.admin.renew()
	}
}

// config is what listeners are given.
func (s *secure) config() *tls.Config {
	if s == nil {
		return nil
	}
	return s.base
}

// adminConfig is what the admin listener is given: who has no certificate logs in
// otherwise there, and health asks for no login.
func (s *secure) adminConfig() *tls.Config {
	if s != nil && s.admin != nil {
		return s.admin.base
	}
	return s.config()
}
