package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/doctor"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
	"github.com/sociable/sociable/web/catalog"
	"github.com/sociable/sociable/web/series"
	"github.com/sociable/sociable/web/trouble"
	"github.com/sociable/sociable/web/ui"
)

// board is the dashboard with what is noted for it. Switched off, it is nothing,
// and nothing is noted.
type board struct {
	on       bool
	watched  *catalog.Watch
	trouble  *trouble.Log
	catalog  *catalog.Catalog
	recorder *series.Recorder
	ui       *ui.UI
}

// newBoard has warnings and errors of *log remembered from now on.
func newBoard(cfg *Config, log **slog.Logger) *board {
	b := &board{on: cfg.Admin.Dashboard && cfg.Admin.Listen != ""}
	if b.on {
		b.trouble = trouble.NewLog(nil)
		*log = slog.New(b.trouble.Handler((*log).Handler()))
	}
	return b
}

// watch is what has to stand in front of the rows.
func (b *board) watch(m storage.Meta) storage.Meta {
	if !b.on {
		return m
	}
	b.watched = catalog.NewWatch(m)
	return b.watched
}

func (b *board) build(life context.Context, cfg *Config, d *doors, l *live, admin *web.Web, px *proxy.Proxy, ix *indexer.Indexer, store *storage.Store, reg prometheus.Gatherer, log *slog.Logger) {
	if !b.on {
		return
	}
	b.catalog = catalog.New(b.watched, store, log)
	b.recorder = series.New(series.Options{Gatherer: reg, Rows: store, Logger: log})
	b.ui = ui.New(ui.Options{
		Store: store, Gatherer: reg, Catalog: b.catalog, Recorder: b.recorder, Trouble: b.trouble, Ranges: px, Running: ix.Running, Wake: ix.Wake,
		Health: health(l), Upstreams: setupUpstreams(l), Test: walkHere, Name: px.Name, Listen: registryAddr(cfg, d), TLS: l.door.tls != nil, Default: cfg.DefaultUpstream,
		Version: buildInfo().Version, Hosts: cfg.Admin.Hosts, Open: l.door.adminOpen.Load, Who: access.AdminName, Login: l.door.AdminLogin, Logout: l.door.AdminLogout,
		Cookie: access.AdminCookie, Immutable: immutableTags(cfg), Namespaces: px.Namespaces, Logger: log,
		Warm: func(w http.ResponseWriter, r *http.Request, q web.WarmRequest) error {
			return admin.Warm(life, w, r, q)
		},
		GC: func(w http.ResponseWriter, r *http.Request, q web.GCRequest) error { return admin.GC(life, w, r, q) },
		Fsck: func(w http.ResponseWriter, r *http.Request, q web.CheckRequest) error {
			return admin.Check(life, w, r, q)
		},
		Bundles: &bundles{life, filepath.Join(cfg.Storage.Path, adminSocket), px, log},
	})
}

// registryAddr is where clients find the registry: by the configuration's host, at
// the port that it came to.
func registryAddr(cfg *Config, d *doors) string {
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil || d.registry == nil {
		return cfg.Listen
	}
	_, port, err := net.SplitHostPort(d.registry.Addr().String())
	if err != nil {
		return cfg.Listen
	}
	return net.JoinHostPort(host, port)
}

// run keeps what it shows fresh until ctx ends.
func (b *board) run(ctx context.Context) error {
	if !b.on {
		<-ctx.Done()
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.catalog.Run(ctx) })
	g.Go(func() error { return b.recorder.Run(ctx) })
	return g.Wait()
}

// over answers what public does not.
func (b *board) over(public http.Handler) http.Handler {
	if !b.on {
		return public
	}
	pages := b.ui.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics", "/healthz", "/readyz":
			public.ServeHTTP(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// setupUpstreams are the registries as clients name them.
func setupUpstreams(l *live) func() []ui.Upstream {
	return func() (list []ui.Upstream) {
		for _, u := range l.now.Load().ups {
			list = append(list, ui.Upstream{Name: u.Name, Hosted: u.Hosted, Offline: u.Offline})
		}
		slices.SortFunc(list, func(a, b ui.Upstream) int { return cmp.Compare(a.Name, b.Name) })
		return list
	}
}

// walkTime bounds a test that somebody waits for.
const walkTime = 30 * time.Second

// walkHere goes a client's way to ref, a name of this proxy's own.
func walkHere(ctx context.Context, ref string) []ui.Step {
	ctx, cancel := context.WithTimeout(ctx, walkTime)
	defer cancel()
	report, err := doctor.Walk(ctx, doctor.Options{Reference: strings.TrimSuffix(ref, "/")})
	var steps []ui.Step
	for _, f := range report.Findings {
		steps = append(steps, ui.Step{Step: f.Step, Verdict: string(f.Verdict), What: f.What, Mend: f.Mend, Took: f.Took})
	}
	if err != nil {
		steps = append(steps, ui.Step{Step: "test", Verdict: string(doctor.Fail), What: err.Error()})
	}
	return steps
}
