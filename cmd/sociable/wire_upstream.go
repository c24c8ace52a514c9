package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/web"
)

// buildUpstreams makes the client of each configured registry.
func buildUpstreams(cfg *Config, log *slog.Logger, reg prometheus.Registerer) ([]*proxy.Upstream, map[string]*upstream.Client, error) {
	return makeUpstreams(cfg, func(string) *upstream.Client { return nil }, log, reg)
}

// makeUpstreams is buildUpstreams with the clients that keep has for some names.
func makeUpstreams(cfg *Config, keep func(name string) *upstream.Client, log *slog.Logger, reg prometheus.Registerer) ([]*proxy.Upstream, map[string]*upstream.Client, error) {
	var ups []*proxy.Upstream
	clients := map[string]*upstream.Client{}
	for name, c := range cfg.Upstreams {
		u, err := url.Parse(c.URL)
		if err != nil {
			return nil, nil, fmt.Errorf("upstream %s: %w", name, err)
		}
		o, err := upstreamOptions(name, c)
		if err != nil {
			return nil, nil, fmt.Errorf("upstream %s: %w", name, err)
		}
		o.URL, o.Logger, o.Registerer = u, log, reg
		o.Wrap = traceUpstream(cfg.Tracing)
		o.Offline = cfg.Offline || c.Offline
		client := keep(name)
		if client == nil {
			if client, err = upstream.New(o); err != nil {
				return nil, nil, fmt.Errorf("upstream %s: %w", name, err)
			}
		}
		clients[name] = client
		ups = append(ups, &proxy.Upstream{
			Name: name, Aliases: c.Aliases, Hosts: c.Hosts, Library: name == dockerHub || u.Host == "registry-1.docker.io",
			Offline: o.Offline, Registry: client, PushThrough: c.Push == "allow", Credentials: client.HasCredentials(), TagTTL: c.TagTTL, TagTimeout: c.TagTimeout,
			Identity: identity(cfg, name, client),
		})
	}
	return ups, clients, nil
}

// identity is as whom an upstream is asked, in what of it makes a difference to
// whom what was pulled may be given.
func identity(cfg *Config, name string, client *upstream.Client) proxy.Identity {
	as := proxy.AsUs
	switch mode := cfg.mode(name); {
	case mode == access.Passthrough:
		as = proxy.AsCallers
	case mode == access.Open && !client.HasCredentials():
		as = proxy.AsAnyone
	}
	return proxy.Identity{URL: cfg.Upstreams[name].URL, As: as}
}

// upstreamOptions are c's. What they were made from was checked before.
func upstreamOptions(name string, c *UpstreamConfig) (o upstream.Options, err error) {
	o = upstream.Options{
		Name: name, TokenRealms: c.TokenRealms, CallersPush: c.Push == "allow", UserAgent: "sociable/" + buildInfo().Version,
		MaxConnections: c.MaxConnections, MaxTransfers: c.MaxTransfers,
		RequestsPerMinute: c.RequestsPerMinute, BytesPerSecond: int64(c.BytesPerSecond),
		DialTimeout: c.DialTimeout, HeaderTimeout: c.HeaderTimeout, StallTimeout: c.StallTimeout,
		Retries: c.Retries, BreakerFailures: c.BreakerFailures, BreakerPause: c.BreakerPause,
		RootCAs: c.RootCAs(), InsecureSkipVerify: c.InsecureSkipVerify, Certificates: c.certs,
	}
	o.Username, o.Password, _ = c.Credentials()
	if o.Retries == 0 {
		o.Retries = -1 // what Options call never
	}
	for _, m := range c.Mirrors {
		u, err := parseMirror(m)
		if err != nil {
			return o, err
		}
		o.Mirrors = append(o.Mirrors, u)
	}
	if o.Header, err = parseHeaders(c.Headers); err != nil {
		return o, err
	}
	if o.Proxy, err = c.proxyFunc(); err != nil {
		return o, err
	}
	o.Keychain = keychain(c)
	return o, nil
}

// health is what /readyz?verbose tells of the upstreams.
func health(l *live) func() []web.Health {
	return func() []web.Health {
		var list []web.Health
		for _, c := range l.now.Load().clients {
			for _, h := range c.Health() {
				w := web.Health{Name: "upstream " + h.Upstream + " " + h.Endpoint, State: h.State, Left: h.Left}
				if h.Err != nil {
					w.Why = h.Err.Error()
				}
				list = append(list, w)
			}
		}
		slices.SortStableFunc(list, func(a, b web.Health) int { return cmp.Compare(a.Name, b.Name) })
		return list
	}
}
