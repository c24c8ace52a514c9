package main

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/sociable/sociable/internal/access"
)

// TokenServerConfig is an external token server that clients are sent to; none
// where all of it is "".
type TokenServerConfig struct {
	Realm      string `yaml:"realm"`        // where clients get tokens
	Service    string `yaml:"service"`      // our name to it, and the tokens' audience
	Issuer     string `yaml:"issuer"`       // its name in them
	KeysFile   string `yaml:"keys_file"`    // a JSON Web Key Set, or PEM; read again when it changes
	KeysURL    string `yaml:"keys_url"`     // of a JSON Web Key Set
	KeysCAFile string `yaml:"keys_ca_file"` // PEM: authorities for keys_url
}

func (t TokenServerConfig) on() bool { return t != TokenServerConfig{} }

// openTokens makes what verifies the token server's tokens. What check will
// find wrong makes nothing.
func (c *Config) openTokens(log *slog.Logger) *fileError {
	t := c.Auth.TokenServer
	if !t.on() || (t.KeysFile == "") == (t.KeysURL == "") {
		return nil
	}
	o := access.TokenServerOptions{Realm: t.Realm, Service: t.Service, Issuer: t.Issuer, KeysFile: t.KeysFile, Logger: log}
	if t.KeysURL != "" {
		u, err := url.Parse(t.KeysURL)
		if err != nil {
			return nil //nolint:nilerr // check says so
		}
		o.KeysURL = u
	}
	if t.KeysCAFile != "" {
		pem, err := os.ReadFile(t.KeysCAFile)
		o.RootCAs = x509.NewCertPool()
		if !o.RootCAs.AppendCertsFromPEM(pem) && err == nil {
			err = fmt.Errorf("%s holds no PEM certificate", t.KeysCAFile)
		}
		if err != nil {
			return &fileError{"token_server.keys_ca_file", err}
		}
	}
	s, err := access.NewTokenServer(o)
	if err != nil {
		return &fileError{"token_server.keys_file", err}
	}
	c.Auth.tokens, c.Auth.tokenCAs = s, o.RootCAs
	return nil
}

// keepTokens goes on with the token server of before, and the keys that it was
// asked for, where nothing about it changed.
func (c *Config) keepTokens(was *Config) {
	a, b := &was.Auth, &c.Auth
	if a.TokenServer != b.TokenServer || a.tokens == nil || (a.tokenCAs == nil) != (b.tokenCAs == nil) || a.tokenCAs != nil && !a.tokenCAs.Equal(b.tokenCAs) {
		return
	}
	b.tokens = a.tokens
}

func (c *Config) checkTokenServer(bad, doubts *findings) {
	t, path := c.Auth.TokenServer, "auth.token_server"
	if !t.on() {
		return
	}
	for _, k := range []struct{ key, value, what string }{
		{"realm", t.Realm, "the address where clients get tokens"},
		{"service", t.Service, "our name to the token server, which its tokens have as their audience"},
		{"issuer", t.Issuer, "the token server's name in its tokens"},
	} {
		switch {
		case k.value == "":
			bad.add(c.origin(path), "%s: has no %s: %s", path, k.key, k.what)
		case strings.ContainsAny(k.value, "\"\\\r\n"):
			bad.add(c.origin(path+"."+k.key), "%s.%s: must not hold a quotation mark, a backslash or a line break", path, k.key)
		}
	}
	if u, err := url.Parse(t.Realm); t.Realm != "" && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http") {
		bad.add(c.origin(path+".realm"), "%s.realm: want https://…", path)
	} else if u != nil && u.Scheme == "http" && !onLoopback(u.Hostname()) {
		doubts.add(c.origin(path+".realm"), "%s.realm: passwords cross the network readable on their way to it; want https://…", path)
	}
	switch {
	case t.KeysFile == "" && t.KeysURL == "":
		bad.add(c.origin(path), "%s: has no keys_url or keys_file to verify tokens by", path)
	case t.KeysFile != "" && t.KeysURL != "":
		bad.add(c.origin(path+".keys_file"), "%s: has both keys_url and keys_file; keep one", path)
	case t.KeysCAFile != "" && t.KeysURL == "":
		bad.add(c.origin(path+".keys_ca_file"), "%s.keys_ca_file: is for keys_url, which is not there", path)
	}
	// Whoever can answer for the keys can sign tokens.
	if u, err := url.Parse(t.KeysURL); t.KeysURL != "" && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !onLoopback(u.Hostname()))) {
		bad.add(c.origin(path+".keys_url"), "%s.keys_url: want https://…; http only for an address of this machine, such as 127.0.0.1", path)
	}
	if c.Auth.URL != "" {
		doubts.add(c.origin("auth.url"), "auth.url: has no effect with a token_server: clients are sent to its realm")
	}
}

// onLoopback reports an address of this machine; a name could be any.
func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || host == "localhost"
}
