package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/proxy"
)

// door is the access control with what it is made of.
type door struct {
	*access.Access
	keys  *access.Keys
	certs *access.Certificates // nil: none out of files
	tls   *secure              // nil: plain HTTP
	// resolve is the proxy that knows what names mean. It is made with the door
	// in hand, and set before anything is served.
	resolve atomic.Pointer[proxy.Proxy]
	// adminOpen: nobody logs in at the admin listener.
	adminOpen atomic.Bool
}

func buildAccess(cfg *Config, l *live, log *slog.Logger, reg prometheus.Registerer) (*door, error) {
	if err := cfg.openAuth(log); err != nil {
		return nil, fmt.Errorf("auth.%s: %w", err.key, err.error)
	}
	keys, err := access.OpenKeys(filepath.Join(cfg.Storage.Path, tokenKeys), log, nil)
	if err != nil {
		return nil, err
	}
	var certs *access.Certificates
	if t := cfg.TLS; t.certs != nil || t.ClientCAFile != "" {
		if certs, err = access.OpenCertificates(t.CertFile, t.KeyFile, t.ClientCAFile, log); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	certs.Register(reg)
	d := &door{keys: keys, certs: certs, tls: buildTLS(cfg, certs)}
	d.Access = access.New(access.Options{
		Keys: keys, Logger: log, Registerer: reg,
		Upstreams: callers{l.client},
		Resolve:   func(host, name string) (oci.Repo, error) { return d.resolve.Load().Resolve(host, name) },
	}, cfg.accessPolicy())
	l.now.Load().bind(cfg, d.Access)
	d.adminOpen.Store(cfg.adminOnLoopback && !cfg.admits())
	return d, nil
}

// run keeps keys and certificates fresh until ctx ends.
func (d *door) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.keys.Run(ctx) })
	g.Go(func() error { return d.Run(ctx) })
	if d.certs != nil && d.tls != nil {
		g.Go(func() error { return d.certs.Run(ctx, d.tls.renew) })
	}
	return g.Wait()
}

// guardAdmin has people log in for all but health: where other machines reach the
// listener, and where the configuration says who may pull.
func (d *door) guardAdmin(cfg *Config, admin http.Handler) http.Handler {
	guarded := d.Administered(admin, func(r *http.Request) bool {
		switch r.URL.Path {
		case "/healthz", "/readyz":
			return r.URL.RawQuery == "" // the verbose form names upstreams
		case "/metrics":
			return cfg.Admin.OpenMetrics
		case "/login":
			return cfg.Admin.Dashboard
		default:
			return cfg.Admin.Dashboard && strings.HasPrefix(r.URL.Path, "/assets/")
		}
	}, func(w http.ResponseWriter, r *http.Request) bool { return cfg.Admin.Dashboard && askBrowser(w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.adminOpen.Load() {
			admin.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// askBrowser sends a person to where one logs in.
func askBrowser(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/"):
		return false
	case r.Header.Get("Hx-Request") != "":
		w.Header().Set("Hx-Redirect", loginFor(r.Header.Get("Hx-Current-Url")))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	case strings.Contains(r.Header.Get("Accept"), "text/html"):
		page := ""
		if r.Method == http.MethodGet {
			page = r.URL.String()
		}
		http.Redirect(w, r, loginFor(page), http.StatusSeeOther)
		return true
	}
	return false
}

// loginFor is where one logs in to come back to page, an address of here.
func loginFor(page string) string {
	u, err := url.Parse(page)
	if err != nil || u.Path == "" || u.Path == "/" && u.RawQuery == "" {
		return "/login"
	}
	back := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	return "/login?" + url.Values{"next": {back.String()}}.Encode()
}
