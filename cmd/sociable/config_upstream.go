package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// checkUpstreamAmounts looks at the numbers and times of an upstream.
func (c *Config) checkUpstreamAmounts(name string, bad *findings) {
	u, path := c.Upstreams[name], "upstreams."+name
	c.checkPositive(path+".tag_timeout", u.TagTimeout, bad)
	c.checkPositive(path+".stall_timeout", u.StallTimeout, bad)
	c.checkPositive(path+".dial_timeout", u.DialTimeout, bad)
	c.checkPositive(path+".header_timeout", u.HeaderTimeout, bad)
	c.checkPositive(path+".breaker_pause", u.BreakerPause, bad)
	for _, n := range []struct {
		key        string
		value, min int
		meaning    string // of the least
	}{
		{"max_connections", u.MaxConnections, 1, ""},
		{"max_transfers", u.MaxTransfers, 0, ", which is seven eighths of max_connections"},
		{"retries", u.Retries, 0, ", which is never"},
		{"requests_per_minute", u.RequestsPerMinute, 0, ", which is any number"},
		{"breaker_failures", u.BreakerFailures, 1, ""},
	} {
		if p := path + "." + n.key; n.value < n.min {
			bad.add(c.origin(p), "%s: want at least %d%s", p, n.min, n.meaning)
		}
	}
	if p := path + ".max_transfers"; u.MaxTransfers > u.MaxConnections && u.MaxConnections > 0 {
		bad.add(c.origin(p), "%s: %d transfers would need more than the %d of max_connections", p, u.MaxTransfers, u.MaxConnections)
	}
}

// checkWays looks at how an upstream is reached, and in whose name.
func (c *Config) checkWays(name string, bad, doubts *findings) {
	u, path := c.Upstreams[name], "upstreams."+name
	for i, m := range u.Mirrors {
		at := c.origin(fmt.Sprintf("%s.mirrors[%d]", path, i))
		if p, err := parseMirror(m); err != nil {
			bad.add(at, "%s.mirrors: %v", path, err)
		} else if p.Scheme == "http" && strings.HasPrefix(u.URL, "https:") {
			doubts.add(at, "%s.mirrors: tags from %s could be forged on the way, over http", path, p.Host)
		}
	}
	if u.DockerConfig != "" && u.Keychain != "docker" {
		bad.add(c.origin(path+".docker_config"), "%s.docker_config: has no effect without the line %q", path, "keychain: docker")
	}
	c.doubtKeychain(name, doubts)
	if _, err := parseHeaders(u.Headers); err != nil {
		bad.add(c.origin(path+".headers"), "%s.headers: %v", path, err)
	}
	if _, err := u.proxyFunc(); err != nil {
		bad.add(c.origin(path+".proxy"), "%s.proxy: %v", path, err)
	}
	if (u.ClientCertFile == "") != (u.ClientKeyFile == "") {
		key := ".client_cert_file"
		if u.ClientCertFile == "" {
			key = ".client_key_file"
		}
		bad.add(c.origin(path+key), "%s: client_cert_file and client_key_file belong together", path)
	}
	c.doubtClientCert(name, time.Now(), doubts)
}

// doubtClientCert finds a certificate for an upstream that has ended, or soon will.
// What is cached is served all the same.
func (c *Config) doubtClientCert(name string, now time.Time, doubts *findings) {
	for _, cert := range c.Upstreams[name].certs {
		at, leaf := "upstreams."+name+".client_cert_file", cert.Leaf
		switch {
		case leaf == nil:
		case now.After(leaf.NotAfter):
			doubts.add(c.origin(at), "%s: the certificate expired on %s: the upstream will refuse it; replace the files and reload", at, leaf.NotAfter.UTC().Format(time.DateOnly))
		case now.Add(upstream.CertificateNotice).After(leaf.NotAfter):
			doubts.add(c.origin(at), "%s: the certificate ends on %s; replace the files and reload", at, leaf.NotAfter.UTC().Format(time.DateOnly))
		case now.Before(leaf.NotBefore):
			doubts.add(c.origin(at), "%s: the certificate is valid from %s only", at, leaf.NotBefore.UTC().Format(time.DateTime))
		}
	}
}

// cloudHosts are the ends of the hosts that a cloud's keychain has credentials
// for.
var cloudHosts = map[string][]string{
	"ecr": {".amazonaws.com", ".amazonaws.com.cn", "public.ecr.aws", ".amazonaws.eu"},
	"gcr": {"gcr.io", ".pkg.dev", ".google.com"},
	"acr": {".azurecr.io", ".azurecr.cn", ".azurecr.us", ".azurecr.de"},
}

// doubtKeychain finds a keychain that has nothing for the upstream.
func (c *Config) doubtKeychain(name string, doubts *findings) {
	u := c.Upstreams[name]
	ends, ok := cloudHosts[u.Keychain]
	p, err := url.Parse(u.URL)
	if !ok || err != nil || slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(p.Hostname(), end) }) {
		return
	}
	at := "upstreams." + name + ".keychain"
	doubts.add(c.origin(at), "%s: %s has no credentials for %s, only for hosts that end in %s", at, u.Keychain, p.Hostname(), strings.Join(ends, ", "))
}

// parseMirror reads a mirror's URL; its path is what stands before repositories'
// names there.
func parseMirror(s string) (*url.URL, error) {
	p, err := url.Parse(s)
	switch {
	case strings.Contains(s, "@"):
		return nil, errors.New("must not hold a user or password; a keychain has them by host")
	case err != nil || (p.Scheme != "http" && p.Scheme != "https") || !isAuthority(strings.ToLower(p.Host)):
		return nil, fmt.Errorf("%q is not a registry's address; write https://host, or https://host/path where the images have that path there", s)
	case p.RawQuery != "" || p.ForceQuery || p.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, fmt.Errorf("%q must end after its path", s)
	}
	prefix := strings.Trim(p.Path, "/")
	if prefix == "v2" || strings.HasPrefix(prefix, "v2/") {
		return nil, fmt.Errorf("%q: leave the v2 out, it is understood", s)
	}
	if prefix != "" && oci.CheckName(prefix) != nil {
		return nil, fmt.Errorf("%q: its path can't begin a repository's name", s)
	}
	return p, nil
}

// parseHeaders reads lines of "Name: value". The error quotes none: they may be
// secret.
func parseHeaders(lines []string) (http.Header, error) {
	h := http.Header{}
	for i, line := range lines {
		k, v, ok := strings.Cut(line, ":")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case !ok || !headerName.MatchString(k) || strings.ContainsFunc(v, unicode.IsControl):
			return nil, fmt.Errorf("number %d is not a header; write \"Name: value\"", i+1)
		case ownHeaders[http.CanonicalHeaderKey(k)]:
			return nil, fmt.Errorf("%s is not free to be set", http.CanonicalHeaderKey(k))
		}
		h.Add(k, v)
	}
	return h, nil
}

// ownHeaders are those that requests need as they are.
var ownHeaders = map[string]bool{
	"Authorization": true, "Range": true, "Host": true, "Accept": true, "Accept-Encoding": true, "Connection": true,
	"Content-Length": true, "Transfer-Encoding": true,
}

// proxyFunc is the HTTP proxy to the upstream; nil leaves it to the environment.
func (u *UpstreamConfig) proxyFunc() (func(*http.Request) (*url.URL, error), error) {
	switch u.Proxy {
	case "":
		return nil, nil
	case "none":
		return func(*http.Request) (*url.URL, error) { return nil, nil }, nil
	}
	p, err := url.Parse(u.Proxy)
	if err != nil || p.Host == "" || (p.Scheme != "http" && p.Scheme != "https" && p.Scheme != "socks5") {
		return nil, errors.New(`want http://host:port, https:// or socks5://, or "none"`) // it may hold a password
	}
	return http.ProxyURL(p), nil
}

// readClientCert takes in the certificate that is shown to the upstream.
func (u *UpstreamConfig) readClientCert() *fileError {
	if u.ClientCertFile == "" || u.ClientKeyFile == "" {
		return nil // check says so, where one is there
	}
	cert, err := tls.LoadX509KeyPair(u.ClientCertFile, u.ClientKeyFile)
	if err != nil {
		return &fileError{"client_cert_file", err}
	}
	u.certs = []tls.Certificate{cert}
	return nil
}
