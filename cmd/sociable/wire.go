package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sociable/sociable/events"
	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/learn"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/referrers"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/web"
)

// metaFile, tokenKeys and adminSocket stand in the data folder beside the blobs; the socket
// is for its own user only.
const (
	metaFile    = "meta.db"
	tokenKeys   = "token-keys.json"
	adminSocket = "admin.sock"
)

// runServer builds every part, wires them, serves until ctx ends, and stops
// them in order: listeners, transfers, indexer, events, store.
func runServer(ctx context.Context, cfg *Config, log *slog.Logger) error {
	return runMeasured(ctx, cfg, log, prometheus.NewRegistry())
}

// metricsRegistry is what every part registers its metrics with.
type metricsRegistry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// runMeasured is runServer with a registry of the caller's.
func runMeasured(ctx context.Context, cfg *Config, log *slog.Logger, reg metricsRegistry) (err error) {
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildGauge(buildInfo()))
	stopTracing, err := startTracing(ctx, cfg.Tracing, log)
	if err != nil {
		return err
	}
	defer stopTracing()
	var evictions eviction
	board := newBoard(cfg, &log)
	store, err := openStore(ctx, cfg, log, reg, &evictions, board.watch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	l, err := newLive(cfg, log, reg)
	if err != nil {
		return err
	}
	ev, err := buildEvents(cfg, store.Store, log, reg)
	if err != nil {
		return err
	}
	evictions.to = ev
	doors, err := openDoors(ctx, cfg)
	if err != nil {
		return err
	}
	defer doors.close()
	return (&base{cfg, log, reg, board, store.Store, l, ev, doors}).run(ctx, store.Run)
}

// base is what the other parts are built upon.
type base struct {
	cfg    *Config
	log    *slog.Logger
	reg    metricsRegistry
	board  *board
	store  *storage.Store
	live   *live
	events *events.Events
	doors  *doors
}

// run builds the other parts, and serves until ctx ends.
func (b *base) run(ctx context.Context, runStore func(context.Context) error) error {
	cfg, log, reg, l := b.cfg, b.log, b.reg, b.live
	fetch := &fetcher{}
	ix := b.indexer(fetch)
	acc, err := buildAccess(cfg, l, log, reg)
	if err != nil {
		return err
	}
	lr := buildLearner(cfg, b.store, ix, fetch.warm, acc, log, reg)
	rf := b.referrers(ix, acc, lr)
	// What outlives a request ends after the listeners, not with them.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	told := &pushes{Events: b.events}
	px, err := proxy.New(life, proxy.Options{
		Store: b.store, Upstreams: l.now.Load().ups, Default: cfg.DefaultUpstream, Access: acc, Indexer: ix, Referrers: rf, Converter: ix, Events: told, Starts: startsOf(lr),
		StopOnDisconnect: !cfg.Storage.FinishOnDisconnect(),
		FillAfterRanges:  cfg.Storage.FillAfterRanges, FillAfterPercent: cfg.Storage.FillAfterPercent, MaxUploads: cfg.Uploads.MaxOpen, PassingBytes: cfg.Uploads.UpstreamBytes.Of(b.store.Usage().Limit), Logger: log, Registerer: reg,
		Scratch: filepath.Join(cfg.Storage.Path, "tmp"),
	})
	if err != nil {
		return err
	}
	acc.resolve.Store(px)
	fetch.Proxy = px
	l.proxy, l.door, l.index = px, acc, ix
	gc := storage.NewCollector(collectOptions(cfg, b.store, log, reg))
	admin := b.admin(px, ix, acc, gc)
	b.board.build(ctx, cfg, b.doors, l, admin, px, ix, b.store, reg, log)

	pw, err := buildPrewarm(cfg, px, log, reg)
	if err != nil {
		return err
	}
	told.to.Store(pw)

	stage := newStages(life)
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"store", runStore}, {"gc", gc.Run}, {"events", b.events.Run}, {"indexer", ix.Run},
		{"proxy", px.Run}, {"prewarm", pw.Run}, {"access", acc.run}, {"dashboard", b.board.run},
	} {
		stage.start(s.name, s.run)
	}
	if lr != nil {
		stage.start("learn", lr.Run)
	}
	if cfg.Listen != "" { // a command's own server has nobody to signal to it
		stage.start("reload", l.run)
	}
	stage.start("listeners", func(ctx context.Context) error {
		return b.doors.serve(ctx, cfg, log, withHooks(px, l, ix, log, reg), admin, b.board.over(admin.Public()), acc)
	})
	err = stage.wait(ctx)
	log.Info("stopped")
	return err
}

// referrers tells what refers to images.
func (b *base) referrers(ix *indexer.Indexer, acc *door, lr *learn.Learner) *referrers.Referrers {
	cfg, l := b.cfg, b.live
	return referrers.New(referrers.Options{
		Store: b.store, Timeout: cfg.Referrers.UpstreamTimeout, TTL: cfg.Referrers.TTL, Hold: holdOptions(cfg, ix), Logger: b.log, Registerer: b.reg,
		Upstream: askReferrers(l, acc), Hosted: isHosted(l), Made: ix, Offers: offersOf(lr),
	})
}

// admin is what the admin listener and the socket answer with.
func (b *base) admin(px *proxy.Proxy, ix *indexer.Indexer, acc *door, gc web.Collector) *web.Web {
	cfg, l := b.cfg, b.live
	return web.New(web.Options{
		Store: b.store, Collector: gc, Images: px, Indexing: ix, Gatherer: b.reg, Logger: b.log, Health: health(l),
		Control: control{l, acc.Access}, Explain: l.explain(b.store), Trusted: cfg.Import.trusted, Immutable: immutableTags(cfg), Namespaces: px.Namespaces,
		Wake: ix.Wake, Paused: paused(px, cfg.Index.PauseAbove),
		Learnt:  ix.Learnt,
		Creator: &web.Creator{Store: b.store, Find: pulledImages(px, b.store), Index: ix}, Backfill: backfill(px, ix),
	})
}

// indexer is made before the proxy, through which it fetches.
func (b *base) indexer(fetch *fetcher) *indexer.Indexer {
	cfg, l := b.cfg, b.live
	return indexer.New(indexer.Options{
		Fetch: fetch, List: lister{l}, Asks: publisher{l}.Takes, Publish: publisher{l}, Flight: fetch.flight, Bring: fetch.bring, Busy: fetch.busy(cfg.Index.PauseAbove), Learned: cfg.Learn.Enabled, RetireAfter: cfg.Index.RetireAfter, PushWait: cfg.Referrers.PushWait, WaitMax: cfg.Referrers.WaitMax,
		Store: b.store, Rules: rules(cfg), Disabled: !cfg.Index.Enabled, Workers: cfg.Index.Workers,
		Limits: cfg.Index.limits(), Events: b.events, SpillDir: filepath.Join(cfg.Storage.Path, "tmp"), Logger: b.log, Registerer: b.reg,
	})
}

// openedStore is the store with what has to be closed behind it.
type openedStore struct {
	*storage.Store
	close func() error
}

func openStore(ctx context.Context, cfg *Config, log *slog.Logger, reg prometheus.Registerer, told *eviction, watch func(storage.Meta) storage.Meta) (*openedStore, error) {
	if err := os.MkdirAll(cfg.Storage.Path, 0o700); err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	if err := refuseLostRows(ctx, cfg.Storage.Path); err != nil {
		return nil, err
	}
	// The rows first: their lock is the store's, and the bytes are tidied up
	// when they are opened.
	meta, err := bolt.Open(filepath.Join(cfg.Storage.Path, metaFile), bolt.Options{Logger: log})
	if err != nil {
		if errors.Is(err, storage.ErrLocked) {
			return nil, fmt.Errorf("%w: is another sociable serving from %s?", err, cfg.Storage.Path)
		}
		return nil, fmt.Errorf("open storage %s: %w", cfg.Storage.Path, err)
	}
	blobs, err := disk.New(cfg.Storage.Path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open storage %s: %w", cfg.Storage.Path, err), meta.Close())
	}
	_, total, err := blobs.Free(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("measure storage %s: %w", cfg.Storage.Path, err), closing(blobs, meta)())
	}
	st := storage.New(storage.Options{
		Blobs: blobs, Meta: watch(meta), MaxBytes: cfg.Storage.MaxBytes.Of(total), MinFree: cfg.Storage.MinFree.Of(total),
		Evicted: told.evicted, Dropped: told.dropped, Logger: log, Registerer: reg,
	})
	return &openedStore{st, closing(blobs, meta)}, nil
}

// closing closes bytes and rows.
func closing(blobs *disk.Disk, meta storage.Meta) func() error {
	return func() error { return errors.Join(blobs.Close(), meta.Close()) }
}

// buildGauge is the metric that tells which build runs.
func buildGauge(b BuildInfo) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sociable_build_info", Help: "Always 1; the labels tell which build this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": b.Go, "platform": b.Platform},
	}, func() float64 { return 1 })
}
