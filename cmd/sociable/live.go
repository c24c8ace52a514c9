package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/web"
)

// live is what of a running server a reload replaces: upstreams with their
// credentials and budgets, who may do what, the rules of what is indexed, and
// what is in certificate files.
type live struct {
	log *slog.Logger
	reg prometheus.Registerer

	reload sync.Mutex // one at a time; guards cfg
	cfg    *Config
	began  *Config // what it was started with, and what no reload takes over is as in
	now    atomic.Pointer[reach]

	proxy *proxy.Proxy     // set before anything is served
	index *indexer.Indexer // likewise
	door  *door            // likewise
}

// reach is what can be pulled from, at one time.
type reach struct {
	ups     []*proxy.Upstream
	clients map[string]*upstream.Client
	hooks   map[string][]string // secrets
}

func (r *reach) upstream(name string) *proxy.Upstream {
	for _, u := range r.ups {
		if u.Name == name {
			return u
		}
	}
	return nil
}

func newLive(cfg *Config, log *slog.Logger, reg prometheus.Registerer) (*live, error) {
	l := &live{log: log, reg: reg, cfg: cfg, began: cfg}
	ups, clients, err := buildUpstreams(cfg, log, reg)
	if err != nil {
		return nil, err
	}
	l.now.Store(&reach{append(ups, buildHosted(cfg)...), clients, hookSecrets(cfg)})
	return l, nil
}

// client is the client of an upstream, nil where there is none.
func (l *live) client(name string) *upstream.Client { return l.now.Load().clients[name] }

// bind has upstreams asked in callers' names where that is configured.
func (r *reach) bind(cfg *Config, acc *access.Access) {
	for _, u := range r.ups {
		if c := r.clients[u.Name]; c != nil && cfg.mode(u.Name) == access.Passthrough {
			u.AsCaller = asCaller(acc, c)
		}
	}
}

var errNoReload = errors.New("this server has no configuration to read again")

// Reload reads the configuration again and takes it over as a whole; one with a
// mistake changes nothing. Connections, transfers and what is cached stay.
func (l *live) Reload(ctx context.Context) (web.Reloaded, error) {
	l.reload.Lock()
	defer l.reload.Unlock()
	if l.cfg.again == nil {
		return web.Reloaded{}, errNoReload
	}
	cfg, warnings, err := l.cfg.again()
	if err != nil {
		return web.Reloaded{}, err
	}
	if ferr := cfg.openAuth(l.log); ferr != nil {
		return web.Reloaded{}, fmt.Errorf("auth.%s: %w", ferr.key, ferr.error)
	}
	cfg.keepTokens(l.cfg)
	if err := l.refreshCertificates(); err != nil {
		return web.Reloaded{}, fmt.Errorf("tls: %w", err)
	}
	next, dropped, err := l.next(cfg)
	if err != nil {
		return web.Reloaded{}, err
	}
	if err := l.proxy.SetUpstreams(next.ups, cfg.DefaultUpstream, func() {
		l.now.Store(next)
		for _, c := range next.clients {
			c.Apply()
		}
		l.door.Apply(cfg.accessPolicy())
		l.door.adminOpen.Store(l.began.adminOnLoopback && !cfg.admits())
	}); err != nil {
		return web.Reloaded{}, err
	}
	for _, c := range dropped {
		c.Close()
	}
	if t := l.cfg.Auth.tokens; t != nil && t != cfg.Auth.tokens {
		t.Close()
	}
	if now := rules(cfg); !reflect.DeepEqual(now, rules(l.cfg)) {
		l.index.SetRules(now)
		l.log.InfoContext(ctx, "what is stored is looked at again, by other rules", "rules", len(now))
	}
	out := web.Reloaded{Warnings: warnings, Restart: restartFor(l.began, cfg)}
	l.cfg = cfg
	for _, w := range out.Warnings {
		l.log.WarnContext(ctx, "doubtful configuration", "what", w)
	}
	if len(out.Restart) > 0 {
		l.log.WarnContext(ctx, "changed, and waits for a restart", "keys", strings.Join(out.Restart, " "))
	}
	l.log.InfoContext(ctx, "configuration was read again", "upstreams", len(next.clients), "rules", len(cfg.Auth.Rules))
	return out, nil
}

func (l *live) refreshCertificates() error {
	if l.door.certs == nil || l.door.tls == nil {
		return nil
	}
	changed, err := l.door.certs.Refresh()
	if changed {
		l.door.tls.renew()
	}
	return err
}

// next builds what cfg can reach. An upstream of which nothing changed keeps its
// client, with its connections, tokens and breaker; dropped are the others', whose
// followers share their budgets.
func (l *live) next(cfg *Config) (next *reach, dropped []*upstream.Client, err error) {
	old := l.now.Load()
	keep := func(name string) *upstream.Client {
		was, is := l.cfg.Upstreams[name], cfg.Upstreams[name]
		if was == nil || l.cfg.Offline != cfg.Offline || !sameUpstream(was, is) {
			return nil
		}
		return old.clients[name]
	}
	ups, clients, err := makeUpstreams(cfg, keep, l.log, l.reg)
	if err != nil {
		return nil, nil, err
	}
	for _, u := range old.ups {
		if u.Hosted { // what is pushed here stays here until a restart
			ups = append(ups, u)
		}
	}
	next = &reach{ups, clients, hookSecrets(cfg)}
	next.bind(cfg, l.door.Access)
	for name, c := range old.clients {
		if clients[name] == c {
			continue
		}
		dropped = append(dropped, c)
		if clients[name] != nil {
			clients[name].Follow(c, asksAlike(l.cfg.Upstreams[name], cfg.Upstreams[name]))
		}
	}
	return next, dropped, nil
}

// sameUpstream reports whether a client made for a would be the same for b.
func sameUpstream(a, b *UpstreamConfig) bool {
	x, y := *a, *b
	x.rootCAs, y.rootCAs, x.certs, y.certs = nil, nil, nil, nil
	sameCA := a.rootCAs == b.rootCAs || a.rootCAs != nil && b.rootCAs != nil && a.rootCAs.Equal(b.rootCAs)
	return sameCA && reflect.DeepEqual(x, y) && slices.EqualFunc(a.certs, b.certs, func(a, b tls.Certificate) bool {
		return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
	})
}

// asksAlike reports whether an upstream is asked in the same way, and in the same
// name, by a and by b: then what it said to a, it said to b.
func asksAlike(a, b *UpstreamConfig) bool {
	y := *b
	y.Offline, y.Aliases, y.Hosts, y.Hook, y.hookSecrets, y.Mirrors = a.Offline, a.Aliases, a.Hosts, a.Hook, a.hookSecrets, a.Mirrors
	y.TagTTL, y.TagTimeout, y.Push, y.Access = a.TagTTL, a.TagTimeout, a.Push, a.Access
	y.StallTimeout, y.HeaderTimeout, y.DialTimeout, y.Retries = a.StallTimeout, a.HeaderTimeout, a.DialTimeout, a.Retries
	y.MaxConnections, y.MaxTransfers, y.RequestsPerMinute, y.BytesPerSecond = a.MaxConnections, a.MaxTransfers, a.RequestsPerMinute, a.BytesPerSecond
	y.BreakerFailures, y.BreakerPause = a.BreakerFailures, a.BreakerPause
	return sameUpstream(a, &y)
}

// restartFor are the keys that changed and that a reload does not take over.
func restartFor(was, is *Config) []string {
	values := func(c *Config) map[string]string {
		m := map[string]string{}
		for _, l := range c.leaves() {
			switch first, _, _ := strings.Cut(l.path, "."); first {
			case "upstreams", "default_upstream", "access", "auth", "offline":
			default:
				if l.path == "index.rules" {
					continue
				}
				m[l.path] = fmt.Sprint(l.v.Interface())
			}
		}
		return m
	}
	a, b := values(was), values(is)
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if v, ok := a[k]; !ok || v != b[k] {
			keys = append(keys, k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[k]; !ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// run reloads at every SIGHUP until ctx ends.
func (l *live) run(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
			if _, err := l.Reload(ctx); err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					l.log.ErrorContext(ctx, "configuration not taken over; the one of before is in force", "err", line)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// control is what the socket lets the owner of the data folder do.
type control struct {
	*live
	*access.Access
}
