package main

import (
	"net/url"

	"github.com/sociable/sociable/internal/access"
)

// TLSConfig is the registry's certificate and what it wants of clients'.
type TLSConfig struct {
	CertFile     string     `yaml:"cert_file"` // PEM, the chain; read again when it changes
	KeyFile      string     `yaml:"key_file"`
	ClientCAFile string     `yaml:"client_ca_file"` // PEM: authorities whose certificates log clients in
	ClientAuth   string     `yaml:"client_auth" enum:"optional,required"`
	ClientName   string     `yaml:"client_name" enum:"subject,dns,email,uri"`
	ACME         ACMEConfig `yaml:"acme"`

	certs *access.Certificates // what the files hold; nil: there are none
}

// ACMEConfig has certificates made by an authority (RFC 8555).
type ACMEConfig struct {
	Domains      []string `yaml:"domains"` // none: no ACME
	Email        string   `yaml:"email"`
	DirectoryURL string   `yaml:"directory_url"` // "": Let's Encrypt's
}

// on reports whether the registry speaks TLS.
func (t *TLSConfig) on() bool { return t.CertFile != "" || len(t.ACME.Domains) > 0 }

func (c *Config) checkTLS(bad, doubts *findings) {
	t := &c.TLS
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		bad.add(c.origin("tls"), "tls: cert_file and key_file go together")
	case t.CertFile != "" && len(t.ACME.Domains) > 0:
		bad.add(c.origin("tls.acme.domains"), "tls.acme.domains: there is a cert_file already; keep one of them")
	case t.ClientCAFile != "" && !t.on():
		bad.add(c.origin("tls.client_ca_file"), "tls.client_ca_file: clients show certificates over TLS only; give cert_file and key_file, too")
	case t.ClientCAFile == "" && t.ClientAuth == "required":
		bad.add(c.origin("tls.client_auth"), "tls.client_auth: certificates cannot be required without client_ca_file to check them by")
	case c.Admin.TLS && !t.on():
		bad.add(c.origin("admin.tls"), "admin.tls: there is no certificate; give tls.cert_file and key_file")
	}
	if !c.Admin.TLS && c.Admin.Listen != "" && c.Auth.HtpasswdFile != "" && !c.adminOnLoopback {
		doubts.add(c.origin("admin.listen"), "admin.listen: passwords cross the network readable, unless something in front of %s speaks TLS; set tls.cert_file and admin.tls: true", c.Admin.Listen)
	}
	for i, d := range t.ACME.Domains {
		if !isHostName(d) {
			bad.add(c.origin("tls.acme.domains"), "tls.acme.domains[%d]: %q is not a host name", i, d)
		}
	}
	if s := t.ACME.DirectoryURL; s != "" {
		if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Host == "" {
			bad.add(c.origin("tls.acme.directory_url"), "tls.acme.directory_url: want https://…")
		}
	}
	if t.CertFile == "" || t.KeyFile == "" {
		return
	}
	certs, err := access.OpenCertificates(t.CertFile, t.KeyFile, t.ClientCAFile, nil)
	if err != nil {
		bad.add(c.origin("tls.cert_file"), "tls: %v", err)
		return
	}
	t.certs = certs
}
