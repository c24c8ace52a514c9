package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// Options are what a Proxy is made of. Store is required; a nil or zero field
// means what its comment says.
type Options struct {
	Store     *storage.Store
	Upstreams []*Upstream
	Default   string    // the upstream of names that name none; "": none
	Access    Access    // nil: everybody may do everything that is offered
	Indexer   Indexer   // nil: nothing is indexed
	Referrers Referrers // nil: every list is empty
	Converter Converter // nil: no converted images are served
	Events    Events    // nil: nobody is told of anything
	Starts    Starts    // nil: nobody learns from starts
	// StopOnDisconnect ends a transfer when its last client leaves; otherwise
	// it goes on, and the next client finds the blob here.
	StopOnDisconnect bool
	// A blob that is read by ranges is fetched whole after so many ranges, or
	// once so much of it was brought by them; 0: never for that reason.
	FillAfterRanges, FillAfterPercent int
	// MaxUploads is how many uploads one caller may have open; 0: any number.
	MaxUploads int
	// PassingBytes is how much may have come of unfinished uploads to one upstream;
	// 0: no limit.
	PassingBytes int64
	// Scratch is a folder for files that nothing is lost without, at most 128 MiB:
	// zTOCs, gzip-encoded; "": os.TempDir.
	Scratch    string
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is exported
	Now        func() time.Time      // nil: time.Now
}

// Proxy answers the /v2 API. It is safe for concurrent use.
type Proxy struct {
	opt        Options
	store      *storage.Store
	index      Indexer
	log        *slog.Logger
	now        func() time.Time
	metrics    *metrics
	bufs, slow *buffers // of chunk, of slowChunk
	router     *mux.Router
	rights     *rights
	missing    *missing
	silent     silence
	heard      *heard
	tables     *lru[digest.Digest, *ztoc.SpanTable] // by zTOC
	readings   *lru[digest.Digest, reading]
	bodies     *lru[digest.Digest, cachedManifest]
	encoded    *encodings // zTOCs; see serveEncoded
	manifests  *share[found]
	heads      *share[int64] // see headOf
	filings    filings
	complaints complaints
	spanAhead  int64                   // see spanAhead
	active     atomic.Int64            // requests being answered
	wentBy     wentBy                  // of blobs for which there is no room
	absent     *lru[string, time.Time] // tags that their upstream had not, and when

	// See SetUpstreams.
	routing atomic.Pointer[routes]
	epoch   atomic.Uint64 // odd while what is in force changes
	swap    sync.Mutex    // held while it does

	life context.Context // of everything that outlives a request
	end  context.CancelCauseFunc
	work workers

	passings  atomic.Int64  // that are shared
	passGrace time.Duration // see passGrace

	forwards forwards
	senders  senders

	mu       sync.Mutex // held for map access only, never across I/O
	fills    map[fillKey]*fill
	spans    map[digest.Digest]*spanFlight
	spanRuns map[layerKey]*spanRuns
	warming  map[layerKey]struct{} // images, see Warm
	bringing map[layerKey]struct{} // see Bring
}

// New makes a Proxy; errors are about names that clash or are missing. life is
// the life of all that outlives a request. Run must be called once, and ends it.
func New(life context.Context, o Options) (*Proxy, error) {
	t, err := newRoutes(o.Upstreams, o.Default)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	p := &Proxy{
		opt: o, store: o.Store, index: o.Indexer, log: o.Logger, now: o.Now,
		metrics: newMetrics(o.Registerer), bufs: newBuffers(chunk), slow: newBuffers(slowChunk), rights: newRights(), missing: newMissing(), heard: newHeard(),
		silent: silence{until: map[string]time.Time{}, why: map[string]error{}}, filings: filings{m: map[filingKey]*filing{}}, tables: newLRU[digest.Digest](maxTables, one[*ztoc.SpanTable]), readings: newLRU[digest.Digest](maxReadings, one[reading]),
		bodies: newLRU[digest.Digest](maxManifests, cachedManifest.cost),
		fills:  map[fillKey]*fill{}, spans: map[digest.Digest]*spanFlight{}, spanRuns: map[layerKey]*spanRuns{}, warming: map[layerKey]struct{}{}, bringing: map[layerKey]struct{}{},
	}
	p.spanAhead = spanAhead(o.Store.Usage().Limit)
	p.passGrace = passGrace
	p.absent = newLRU[string](maxAbsent, one[time.Time])
	p.wentBy.parts = newLRU[digest.Digest](maxWentBy, func(e oci.Extents) int64 { return int64(len(e)) })
	p.routing.Store(t)
	if p.index == nil {
		p.index = noIndexer{}
	}
	if o.Events == nil {
		p.opt.Events = noEvents{}
	}
	for _, u := range o.Upstreams {
		if u.Hosted {
			u.Registry, u.TagTTL = origin{u.Name}, math.MaxInt64
		}
		p.metrics.mismatches.WithLabelValues(u.Name) // so that a rate exists from the start
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.life, p.end = context.WithCancelCause(life)
	p.manifests = newShare[found](p.life, &p.work)
	p.heads = newShare[int64](p.life, &p.work)
	p.encoded = newEncodings(o.Scratch, p)
	p.router = p.newRouter()
	if o.Registerer != nil {
		o.Registerer.MustRegister(namespaceCollector{p})
	}
	p.settle(life, p.voided(life, o.Upstreams))
	return p, nil
}

// errShutdown is the cause of what the end of the process cut short.
var errShutdown = errors.New("the proxy is shutting down")

// Run owns everything that outlives a request, until ctx ends; then it stops
// the transfers, files what they brought, and returns when all have ended. The
// listener must have been shut down before.
func (p *Proxy) Run(ctx context.Context) error {
	p.work.start(func() { p.writeRights(p.life) })
	p.work.start(func() { p.writeMissing(p.life) })
	<-ctx.Done()
	p.end(errShutdown)
	p.work.end()
	if err := p.encoded.end(); err != nil {
		p.log.WarnContext(ctx, "encoded zTOCs are left behind", "dir", p.encoded.dir, "err", err)
	}
	return nil
}

// ServeHTTP answers one request; see newRouter.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.active.Add(1)
	defer p.active.Add(-1)
	p.observe(w, r, p.router)
}

// base tells clients that this is a registry (distribution specification,
// "Determining Support").
func (p *Proxy) base(w http.ResponseWriter, r *http.Request) error {
	if d, ok := p.opt.Access.(Door); ok {
		if err := d.Enter(r); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2")
	if r.Method != http.MethodHead {
		_, _ = w.Write(oci.EmptyJSON) // a client that left is nobody's loss
	}
	return nil
}

// referrers checks the right and leaves the answer to those who know it.
func (p *Proxy) referrers(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.route(r, oci.ActionPull)
	if err != nil {
		return err
	}
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	note(r).digest = d.String()
	if p.opt.Referrers == nil {
		return oci.NewError(errcode.ErrorCodeUnsupported, "referrers are not served here")
	}
	if got, ok := p.filings.get(repo, oci.Reference{Digest: d}); ok {
		_ = got.filed(r.Context()) // whether an index of it will come is a matter of its rows
	}
	serve := p.opt.Referrers.Serve
	err = p.mayList(r.Context(), up, repo, d)
	if upstream.IsNotFound(err) { // of what is not there, or deleted, there is a list, too
		serve, err = p.opt.Referrers.ServeTheirs, nil
	}
	if err != nil {
		return manifestError(repo, oci.Reference{Digest: d}, err)
	}
	// A client that is held until an index is there keeps nobody busy: work on that
	// index must not wait for it.
	p.active.Add(-1)
	defer p.active.Add(1)
	return serve(w, r, repo, d)
}

// mayList proves, where something is known here of the subject, that repo has
// it. Of a subject that is not known there is nothing to keep from anybody.
func (p *Proxy) mayList(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest) error {
	if up.Hosted { // the list has what was pushed to repo, and what repo has a right to
		return nil
	}
	var entitled, listed bool
	err := p.store.View(ctx, func(tx storage.Tx) (err error) {
		if entitled, err = p.has(tx, repo, d, ""); err != nil || entitled {
			return err
		}
		if _, err := tx.Blob(d); err == nil {
			listed = true
		}
		return tx.Referrers(d, func(storage.ReferrerRow) error { listed = true; return nil })
	})
	if err != nil || entitled || !listed {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, mayListTime)
	defer cancel()
	if _, err := up.Registry.HeadManifest(asking, repo.Name, oci.Reference{Digest: d}); err != nil {
		if ctx.Err() == nil && asking.Err() != nil {
			return &oci.Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: time.Second, Err: err,
				Message: fmt.Sprintf("ask %s for %s: its upstream does not answer", repo, d)}
		}
		return fmt.Errorf("ask %s for %s: %w", repo, d, err)
	}
	p.grant(up, repo, d)
	return nil
}

// mayListTime is how long an upstream may take to say whether a list of referrers may
// be shown: a client that starts a container waits for that, and gives up soon.
const mayListTime = 2 * time.Second

// route finds what the request's name means, after its grammar was checked, and
// whether its caller may do action there. A refusal comes with what it is about.
func (p *Proxy) route(r *http.Request, action oci.Action) (*Upstream, oci.Repo, error) {
	name := mux.Vars(r)["name"]
	if err := oci.CheckName(name); err != nil {
		return nil, oci.Repo{}, err
	}
	up, repo, err := p.admit(r, name, action)
	if err != nil {
		return up, repo, err
	}
	if up.AsCaller != nil {
		theirs := *up
		theirs.Registry = up.AsCaller(r, repo)
		up = &theirs
	}
	return up, repo, nil
}

func unknownPath(_ http.ResponseWriter, r *http.Request) error {
	if strings.HasPrefix(r.URL.Path, "/v2/") && strings.Contains(r.URL.Path, "..") {
		return oci.NewError(errcode.ErrorCodeNameInvalid, "invalid path")
	}
	return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusNotFound,
		Message: "no such endpoint: this is a registry, its API is under /v2/"}
}
