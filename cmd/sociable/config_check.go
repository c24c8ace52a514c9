package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check finds what is wrong with a complete configuration, and what is merely
// doubtful.
func (c *Config) check(bad, doubts *findings) {
	c.checkListeners(bad)
	c.checkAmounts(bad)
	names := slices.Sorted(maps.Keys(c.Upstreams))
	if len(names) == 0 && len(c.Hosted) == 0 {
		bad.add(c.origin("upstreams"), "upstreams: names none, and hosted neither, so nothing could be pulled; without the key there are the well-known registries")
	}
	if len(names) == 0 && c.Hosted[localNamespace] != nil && !c.hostedGiven(localNamespace) {
		doubts.add(c.origin("upstreams"), "upstreams: names none: there is what is pushed to %s, and nothing else; without the key there are the well-known registries", localNamespace)
	}
	if d := c.DefaultUpstream; d != "" && c.Upstreams[d] == nil {
		bad.add(c.origin("default_upstream"), "default_upstream: no upstream is named %q%s", d, didYouMean(d, names))
	}
	for _, name := range names {
		c.checkUpstream(name, bad, doubts)
	}
	c.checkNames(names, bad, doubts)
	c.checkRules(bad, doubts)
	c.checkPrewarm(bad, doubts)
	c.checkOffline(doubts)
	c.checkLearn(bad)
	c.checkRetention(bad, doubts)
	c.checkEvents(bad, doubts)
	c.checkTracing(bad)
	c.onLoopback = loopbackOnly(context.Background(), net.DefaultResolver, c.Listen)
	c.adminOnLoopback = loopbackOnly(context.Background(), net.DefaultResolver, c.Admin.Listen)
	c.checkHosted(bad, doubts)
	c.checkPushThrough(doubts)
	c.checkTLS(bad, doubts)
	c.checkAuth(bad, doubts)
	c.checkExposure(bad)
}

func (c *Config) checkListeners(bad *findings) {
	for _, l := range []struct{ path, addr string }{{"listen", c.Listen}, {"admin.listen", c.Admin.Listen}} {
		path, addr := l.path, l.addr
		host, port, err := net.SplitHostPort(addr)
		n, nerr := strconv.ParseUint(port, 10, 16)
		ip, _ := netip.ParseAddr(host)
		switch {
		case path == "admin.listen" && addr == "": // none
		case err != nil || nerr != nil:
			bad.add(c.origin(path), "%s: %q is not an address; write host:port, such as 127.0.0.1:5000", path, addr)
		case host != "" && !ip.IsValid() && !isHost(strings.ToLower(host)):
			bad.add(c.origin(path), "%s: %q is neither an IP address nor a host name", path, host)
		case path == "admin.listen" && addr == c.Listen && n != 0:
			bad.add(c.origin(path), "admin.listen: %s is the registry's own address; take another port", addr)
		}
	}
}

// checkAmounts looks at numbers that may not be zero or out of bounds.
func (c *Config) checkAmounts(bad *findings) {
	if c.Storage.Path == "" {
		bad.add(c.origin("storage.path"), "storage.path: names no folder")
	}
	if c.Storage.MaxBytes == (Room{}) {
		bad.add(c.origin("storage.max_bytes"), "storage.max_bytes: nothing could be stored in 0 bytes")
	}
	if c.Storage.MinFree.Percent >= 100 {
		bad.add(c.origin("storage.min_free"), "storage.min_free: nothing could be stored with 100%% left free")
	}
	if c.Storage.FillAfterRanges < 0 {
		bad.add(c.origin("storage.fill_after_ranges"), "storage.fill_after_ranges: want a number of ranges, or 0 for never")
	}
	if p := c.Storage.FillAfterPercent; p < 0 || p > 100 {
		bad.add(c.origin("storage.fill_after_percent"), "storage.fill_after_percent: want 1 to 100, or 0 for never")
	}
	if c.Index.PauseAbove < 0 {
		bad.add(c.origin("index.pause_above"), "index.pause_above: want a number of requests, or 0 to never pause")
	}
	if c.Index.Workers < 1 {
		bad.add(c.origin("index.workers"), "index.workers: want at least 1; to index nothing write enabled: false")
	}
	if c.Index.MaxUncompressed < 1 {
		bad.add(c.origin("index.max_uncompressed"), "index.max_uncompressed: want more than 0; to index nothing write enabled: false")
	}
	if c.Index.MaxFiles < 1 {
		bad.add(c.origin("index.max_files"), "index.max_files: want at least 1; to index nothing write enabled: false")
	}
	if c.Index.MaxZTOC < 1 {
		bad.add(c.origin("index.max_ztoc"), "index.max_ztoc: want more than 0; to index nothing write enabled: false")
	}
	c.checkPositive("index.retire_after", c.Index.RetireAfter, bad)
	if w := c.Referrers.Wait; w > maxWait {
		bad.add(c.origin("referrers.wait"), "referrers.wait: clients give up when no answer has begun after 3s: want at most %s", formatDuration(maxWait))
	} else if w > c.Referrers.WaitMax {
		bad.add(c.origin("referrers.wait_max"), "referrers.wait_max: want at least referrers.wait, %s", formatDuration(w))
	}
	c.checkPositive("referrers.upstream_timeout", c.Referrers.UpstreamTimeout, bad)
	c.checkPositive("referrers.ttl", c.Referrers.TTL, bad)
}

// maxWait leaves soci-snapshotter, which waits 3 s for an answer to begin, time
// for the way.
const maxWait = 2500 * time.Millisecond

func (c *Config) checkPositive(path string, d time.Duration, bad *findings) {
	if d <= 0 {
		bad.add(c.origin(path), "%s: want more than 0", path)
	}
}

// nameGrammar is that of one path segment of a repository name, which an
// upstream's name and aliases are in every request (distribution
// specification, "Pulling manifests").
var nameGrammar = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)

func (c *Config) checkUpstream(name string, bad, doubts *findings) {
	u, path := c.Upstreams[name], "upstreams."+name
	if !nameGrammar.MatchString(name) {
		bad.add(c.origin(path), "upstreams: %q can't stand first in a repository's name; use lower-case letters, digits, and single . _ or - between them", name)
	}
	c.checkURL(name, bad, doubts)
	switch {
	case u.Password != "" && u.PasswordFile != "":
		bad.add(c.origin(path+".password_file"), "%s: has both password and password_file; keep one", path)
	case u.Username == "" && (u.Password != "" || u.PasswordFile != ""):
		key := ".password"
		if u.PasswordFile != "" {
			key = ".password_file"
		}
		bad.add(c.origin(path+key), "%s: has a password but no username", path)
	case u.Username != "" && u.Keychain != "":
		bad.add(c.origin(path+".keychain"), "%s: has both username and keychain; keep one", path)
	case u.Username != "" && u.Password == "" && u.PasswordFile == "":
		bad.add(c.origin(path+".username"), "%s: has a username but no password; set password_file, or %s in the environment", path, envName(path+".password"))
	}
	for i, realm := range u.TokenRealms {
		if !isAuthority(realm) {
			bad.add(c.origin(fmt.Sprintf("%s.token_realms[%d]", path, i)), "%s.token_realms: %q is not a host; write it as in auth.docker.io, without scheme or path", path, realm)
		}
	}
	c.checkHook(name, bad, doubts)
	c.checkUpstreamAmounts(name, bad)
	c.checkWays(name, bad, doubts)
}

// checkURL looks at an upstream's url, and drops a slash at its end. It quotes
// none that could hold a password.
func (c *Config) checkURL(name string, bad, doubts *findings) {
	u, path := c.Upstreams[name], "upstreams."+name+".url"
	at := c.origin(path)
	u.URL = strings.TrimSuffix(u.URL, "/")
	p, err := url.Parse(u.URL)
	switch {
	case u.URL == "":
		bad.add(at, "%s: is missing, and %q is no host name that it could be made from", path, name)
	case strings.Contains(u.URL, "@"):
		bad.add(at, "%s: must not hold a user or password; use username and password_file", path)
	case err != nil || p.Host == "" || (p.Scheme != "https" && p.Scheme != "http"):
		bad.add(at, "%s: %q is not a registry's address; write https://host or http://host:port", path, u.URL)
	case p.Path != "" || p.RawQuery != "" || p.ForceQuery || p.Fragment != "" || strings.HasSuffix(u.URL, "#"):
		bad.add(at, "%s: %q must end after the host and port", path, u.URL)
	case !isAuthority(strings.ToLower(p.Host)):
		bad.add(at, "%s: %q is not a host, or not a host and a port", path, p.Host)
	case p.Scheme == "http":
		c.doubtPlain(name, p.Hostname(), doubts)
	case u.InsecureSkipVerify:
		doubts.add(c.origin("upstreams."+name+".insecure_skip_verify"), "upstreams.%s: any machine on the way could pose as it, since its certificate is not checked", name)
	}
}

func (c *Config) doubtPlain(name, host string, doubts *findings) {
	u, path := c.Upstreams[name], "upstreams."+name
	ip, err := netip.ParseAddr(host)
	loopback := host == "localhost" || (err == nil && ip.Unmap().IsLoopback())
	if u.Username != "" && !loopback {
		doubts.add(c.origin(path+".url"), "%s: its password crosses the network readable, over http", path)
	}
	overTLS := slices.ContainsFunc(u.Mirrors, func(m string) bool { return strings.HasPrefix(m, "https:") })
	if u.CAFile != "" && !overTLS {
		doubts.add(c.origin(path+".ca_file"), "%s.ca_file: has no effect over http", path)
	}
	if u.InsecureSkipVerify && !overTLS {
		doubts.add(c.origin(path+".insecure_skip_verify"), "%s.insecure_skip_verify: has no effect over http", path)
	}
}

// checkNames finds names, aliases and virtual hosts that mean two upstreams.
func (c *Config) checkNames(names []string, bad, doubts *findings) {
	segments, hosts := map[string]string{}, map[string]string{} // to the path that has them
	for _, name := range names {
		segments[name] = "upstreams." + name
		c.doubtShadow(name, "upstreams."+name, doubts)
	}
	for _, name := range names {
		for i, alias := range c.Upstreams[name].Aliases {
			path := fmt.Sprintf("upstreams.%s.aliases[%d]", name, i)
			switch other, taken := segments[alias]; {
			case !nameGrammar.MatchString(alias):
				bad.add(c.origin(path), "%s: %q can't stand first in a repository's name", path, alias)
			case taken:
				bad.add(c.origin(path), "%s: %q is taken by %s", path, alias, c.where(other))
			default:
				segments[alias] = path
				c.doubtShadow(alias, path, doubts)
			}
		}
		for i, host := range c.Upstreams[name].Hosts {
			path := fmt.Sprintf("upstreams.%s.hosts[%d]", name, i)
			switch other, taken := hosts[host]; {
			case !isHost(host):
				bad.add(c.origin(path), "%s: %q is not a host name; write it in lower case, without a port", path, host)
			case taken:
				bad.add(c.origin(path), "%s: %q is taken by %s", path, host, c.where(other))
			default:
				hosts[host] = path
			}
		}
	}
}

// where names a path and, if it was given in a file, its line.
func (c *Config) where(path string) string {
	if o, ok := c.origins[path]; ok {
		return fmt.Sprintf("%s (%s)", path, o)
	}
	return path
}

// doubtShadow warns of a first segment that Docker Hub could have as a user.
// One that was just typed, on the command line, is wanted.
func (c *Config) doubtShadow(segment, path string, doubts *findings) {
	if typed := strings.HasPrefix(c.origin(path).source, "--"); !typed && c.DefaultUpstream == dockerHub && !strings.Contains(segment, ".") {
		doubts.add(c.origin(path), "%s: hides Docker Hub's own %q from clients that use this as a mirror; a name with a dot would not", path, segment+"/…")
	}
}

// isHost reports a host name in lower case, with or without dots.
func isHost(s string) bool { return isHostName(s) || isHostName(s+".x") }

// isAuthority reports host or host:port, where host may be an IP address.
func isAuthority(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	_, err := netip.ParseAddr(host)
	return err == nil || isHost(host)
}
