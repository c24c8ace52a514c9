package main

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sociable/sociable/internal/access"
)

// AuthConfig is who may do what at the registry's door.
type AuthConfig struct {
	URL            string            `yaml:"url"`             // where clients reach us; "": as each of them says
	TrustedProxies []string          `yaml:"trusted_proxies"` // networks, or addresses, whose X-Forwarded-For counts
	HtpasswdFile   string            `yaml:"htpasswd_file"`   // users and bcrypt hashes; read again when it changes
	TokenServer    TokenServerConfig `yaml:"token_server"`
	Groups         []GroupConfig     `yaml:"groups"`
	Rules          []AuthRule        `yaml:"rules"` // the first that matches a repository decides

	passwords *access.Passwords   // what HtpasswdFile holds
	tokens    *access.TokenServer // what verifies TokenServer's tokens
	tokenCAs  *x509.CertPool      // for its KeysURL
	proxies   []netip.Prefix      // what TrustedProxies say
}

// GroupConfig is a set of users that rules name as @NAME.
type GroupConfig struct {
	Name  string   `yaml:"name"`
	Users []string `yaml:"users"`
}

// AuthRule says who may do what in some repositories. Its patterns are those of
// IndexRule; its lists hold users, @groups, "authenticated" and "anonymous".
type AuthRule struct {
	Repositories []string `yaml:"repositories"`
	Exclude      []string `yaml:"exclude"`
	Pull         []string `yaml:"pull"`
	Push         []string `yaml:"push"`
	Delete       []string `yaml:"delete"`
	Administer   []string `yaml:"administer"`
}

// who are the lists of r by their keys.
func (r *AuthRule) who() map[string][]string {
	return map[string][]string{"pull": r.Pull, "push": r.Push, "delete": r.Delete, "administer": r.Administer}
}

// logins reports whether there is a way to log in.
func (c *Config) logins() bool {
	return c.Auth.HtpasswdFile != "" || c.TLS.ClientCAFile != "" || c.Auth.TokenServer.on()
}

// mode is what upstream name is to callers whom no rule speaks of.
func (c *Config) mode(name string) access.Mode {
	u := c.Upstreams[name]
	a := u.Access
	if a == "" {
		a = c.Access
	}
	_, _, secret := u.Credentials()
	secret = secret || u.ClientCertFile != "" || len(u.Headers) > 0 // they may open what nobody else can read
	switch {
	case a == "passthrough" && (u.Access != "" || !secret):
		return access.Passthrough
	case a == "open", a == "" && !secret:
		return access.Open
	default:
		return access.Closed
	}
}

// guarded reports whether it makes a difference who asks: where nothing is said
// about it, only this machine can ask, and may do all that is offered.
func (c *Config) guarded() bool {
	return c.Access != "" || c.logins() || len(c.Auth.Rules) > 0 || !c.onLoopback ||
		slices.ContainsFunc(slices.Collect(maps.Values(c.Upstreams)), func(u *UpstreamConfig) bool { return u.Access != "" }) ||
		slices.ContainsFunc(slices.Collect(maps.Values(c.Hosted)), func(h *HostedConfig) bool { return h.Access != "" })
}

// admits reports whether it says whom to let in: then not all that reach the
// admin listener may see what they could not pull.
func (c *Config) admits() bool {
	return c.logins() || len(c.Auth.Rules) > 0 ||
		slices.ContainsFunc(slices.Collect(maps.Keys(c.Upstreams)), func(name string) bool { return c.mode(name) == access.Passthrough })
}

// accessPolicy is what c says about who may do what.
func (c *Config) accessPolicy() access.Policy {
	p := access.Policy{
		Unguarded: !c.guarded(), Service: c.Auth.URL, Passwords: c.Auth.passwords, Tokens: c.Auth.tokens, CertificateName: access.NameOf(c.TLS.ClientName), Upstreams: map[string]access.Mode{},
		Pushed: map[string]bool{}, Addresses: map[string]string{}, TrustedProxies: c.Auth.proxies,
	}
	for name, u := range c.Upstreams {
		p.Upstreams[name] = c.mode(name)
		p.Pushed[name] = u.Push == "allow"
		if !c.Offline && !u.Offline { // it may be corrected before it is asked
			p.Addresses[name] = u.URL
		}
	}
	for _, g := range c.Auth.Groups {
		p.Groups = append(p.Groups, access.Group(g))
	}
	for _, r := range c.Auth.Rules {
		p.Rules = append(p.Rules, access.Rule(r))
	}
	p.Rules = append(p.Rules, c.pushRules()...)
	for name := range c.Hosted {
		if c.Access == "open" {
			p.Upstreams[name] = access.Open
		}
	}
	return p
}

// openAuth takes in the files that auth names. They are watched from then on,
// and what is found in them later goes to log.
func (c *Config) openAuth(log *slog.Logger) *fileError {
	if err := c.openTokens(log); err != nil || c.Auth.HtpasswdFile == "" {
		return err
	}
	p, err := access.OpenPasswords(c.Auth.HtpasswdFile, log)
	if err != nil {
		return &fileError{"htpasswd_file", err}
	}
	c.Auth.passwords = p
	return nil
}

func (c *Config) checkAuth(bad, doubts *findings) {
	if s := c.Auth.URL; s != "" {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			bad.add(c.origin("auth.url"), "auth.url: want https:// and the host, and port, that clients reach this under")
		}
	}
	c.checkProxies(bad, doubts)
	groups := map[string]bool{}
	for i, g := range c.Auth.Groups {
		path := fmt.Sprintf("auth.groups[%d]", i)
		switch {
		case g.Name == "" || strings.ContainsAny(g.Name, "@ \t"):
			bad.add(c.origin(path), "%s.name: want a word", path)
		case groups[g.Name]:
			bad.add(c.origin(path), "%s.name: there is a group %q already", path, g.Name)
		}
		groups[g.Name] = true
	}
	for i := range c.Auth.Rules {
		c.checkAuthRule(i, groups, bad, doubts)
	}
	c.checkTokenServer(bad, doubts)
	passes := false
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		if u := c.Upstreams[name]; c.mode(name) == access.Passthrough {
			passes = true
			path := "upstreams." + name
			if c.Auth.TokenServer.on() {
				bad.add(c.origin(path+".access"), "%s: access: passthrough has callers log in here with credentials for it, and auth.token_server sends them elsewhere; keep one", path)
			}
			for _, k := range []struct {
				key   string
				given bool
			}{{"username", u.Username != ""}, {"keychain", u.Keychain != ""}, {"client_cert_file", u.ClientCertFile != ""}, {"headers", len(u.Headers) > 0}, {"mirrors", len(u.Mirrors) > 0}} {
				if k.given {
					bad.add(c.origin(path+"."+k.key), "%s: with access: passthrough it is asked in the name of whoever pulls, and nobody else: remove %s, or the access", path, k.key)
				}
			}
		}
	}
	if (c.Auth.HtpasswdFile != "" || passes) && !c.TLS.on() && !c.onLoopback && !strings.HasPrefix(c.Auth.URL, "https:") {
		doubts.add(c.origin("auth"), "auth: passwords cross the network readable, unless something in front of %s speaks TLS; set tls.cert_file, or write its address in auth.url", c.Listen)
	}
}

func (c *Config) checkAuthRule(i int, groups map[string]bool, bad, doubts *findings) {
	r, path := &c.Auth.Rules[i], fmt.Sprintf("auth.rules[%d]", i)
	if len(r.Repositories) == 0 {
		bad.add(c.origin(path+".repositories"), "%s.repositories: matches nothing; write [\"**\"] for all", path)
	}
	c.checkPatterns(path+".repositories", r.Repositories, bad, doubts)
	c.checkPatterns(path+".exclude", r.Exclude, bad, doubts)
	lists := r.who()
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		for j, w := range lists[key] {
			at := c.origin(fmt.Sprintf("%s.%s[%d]", path, key, j))
			switch {
			case w == "" || w == "@" || strings.ContainsAny(w, ": \t"):
				bad.add(at, "%s.%s: %q names nobody; write a user, a @group, authenticated or anonymous", path, key, w)
			case w == access.Anonymous && key != "pull":
				doubts.add(at, "%s.%s: anonymous lets everybody %s who reaches this", path, key, key)
			case w == access.Anonymous:
			case !c.logins():
				doubts.add(at, "%s.%s: nobody can log in as %s, because there is no auth.htpasswd_file or token_server", path, key, w)
			case c.Auth.TokenServer.on(): // who is known there, is not known here
			case w[0] == '@' && c.TLS.ClientCAFile == "" && !groups[w[1:]]:
				doubts.add(at, "%s.%s: there is no group %q in auth.groups", path, key, w[1:])
			case w != access.Authenticated && w[0] != '@' && c.TLS.ClientCAFile == "" && c.Auth.passwords != nil && !c.Auth.passwords.Has(w):
				doubts.add(at, "%s.%s: there is no user %q in %s", path, key, w, c.Auth.HtpasswdFile)
			}
		}
	}
}
