package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

// Retention says what stays of some hosted repositories. A tag stays if any of
// KeepLast, KeepFor and KeepTags says so, and where none is set.
type Retention struct {
	Repositories []string      // patterns, see oci.MatchAny
	KeepLast     int           // so many tags, those that were pushed last
	KeepFor      time.Duration // tags that were pushed so recently
	KeepTags     []string      // tags of these names, in which * is any run of characters
	Untagged     time.Duration // a manifest without a tag goes when it was not used for so long; 0: it stays
}

// CollectOptions say what is garbage. The zero value of each keeps what it is about.
type CollectOptions struct {
	Store *Store
	// Hosted are the upstreams of which the images are pushed here.
	Hosted []string
	// Rules: the first that matches a repository counts.
	Rules []Retention
	// Immutable reports tags that always stay; nil: none.
	Immutable func(repo oci.Repo, tag string) bool
	// Grace is for how long nothing goes that was pushed or asked for: somebody
	// may be about to push a manifest that names it.
	Grace time.Duration
	// Pulled is after how long unused manifests go that were pulled through, and
	// with them what was made here of them; 0: never.
	Pulled time.Duration
	// Uploads is after how long an unfinished upload goes; 0: never.
	Uploads time.Duration
	// Interval is how often Run collects; 0: never.
	Interval   time.Duration
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil leaves the metrics unregistered
}

// What a Collected is.
const (
	CollectedTag      = "tag"
	CollectedManifest = "manifest" // that a hosted repository had, or that was pulled
	CollectedBlob     = "blob"     // that a hosted repository had
	CollectedMade     = "made"     // a zTOC or an index that was made here
	CollectedUpload   = "upload"
	CollectedOrphan   = "orphan" // bytes without a row, which a crash left
)

// Collected is one thing that goes.
type Collected struct {
	What   string        `json:"what"`
	Repo   string        `json:"repository,omitempty"`
	Tag    string        `json:"tag,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Upload string        `json:"upload,omitempty"`
	Bytes  int64         `json:"bytes,omitempty"`
	Reason string        `json:"reason"`
}

// CollectReport is what a collection came to.
type CollectReport struct {
	DryRun    bool          `json:"dry_run,omitempty"`
	Tags      int           `json:"tags"`
	Manifests int           `json:"manifests"` // that went from a repository, were deleted from the last one, or were pulled
	Blobs     int           `json:"blobs"`     // that went from a repository, or were deleted from the last one
	Made      int           `json:"made"`      // zTOCs and indexes
	Uploads   int           `json:"uploads"`
	Orphans   int           `json:"orphans"` // files that a crash left
	Freed     int64         `json:"freed"`   // bytes
	Took      time.Duration `json:"took_ns"`
}

// Collector removes garbage of a Store that is in use: content of hosted
// repositories that nothing needs, and what is left of images that were pulled
// long ago.
//
// Everything is judged twice: when it is found, and in the transaction that
// deletes its row. What needs something, a manifest or a tag, is a row, so that
// whichever of the two transactions comes first, the other one sees it: a push
// that names what is being collected keeps it, or is told that it is missing.
// Rows are read in batches, and no transaction is open across I/O.
type Collector struct {
	o       CollectOptions
	s       *Store
	log     *slog.Logger
	m       *collectMetrics
	running chan struct{} // cap 1
}

// NewCollector makes a Collector.
func NewCollector(o CollectOptions) *Collector {
	c := &Collector{o: o, s: o.Store, log: o.Logger, m: newCollectMetrics(o.Registerer), running: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Run collects from time to time until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	if c.o.Interval <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(c.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := c.Collect(ctx, false, nil); err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
			c.log.ErrorContext(ctx, "garbage not collected", "err", err)
		}
	}
}

// Collect removes what is garbage now, or with dry only says what that would be;
// found, if not nil, hears of each. ErrBusy while it runs already. It can be
// broken off at any time: the next one does the rest.
func (c *Collector) Collect(ctx context.Context, dry bool, found func(Collected)) (CollectReport, error) {
	return c.CollectAfter(ctx, c.o.Grace, dry, found)
}

// CollectAfter is Collect with another grace than that of the options. With none,
// what a client has pushed, or was told is here, may be gone by the time that it
// sends the manifest: it is told so then.
func (c *Collector) CollectAfter(ctx context.Context, grace time.Duration, dry bool, found func(Collected)) (CollectReport, error) {
	select {
	case c.running <- struct{}{}:
	default:
		return CollectReport{}, fmt.Errorf("collect garbage: %w by another collection", ErrBusy)
	}
	defer func() { <-c.running }()
	if err := c.s.count(ctx); err != nil {
		return CollectReport{}, err
	}
	start := time.Now()
	g := &collection{c: c, s: c.s, grace: grace, now: c.s.now(), dry: dry, found: found,
		report: CollectReport{DryRun: dry}, letGo: map[digest.Digest]bool{}}
	err := g.all(ctx)
	g.report.Took = time.Since(start)
	if !dry {
		c.m.ran(g.report, err)
		c.log.InfoContext(ctx, "garbage collected", "tags", g.report.Tags, "manifests", g.report.Manifests, "blobs", g.report.Blobs,
			"made", g.report.Made, "uploads", g.report.Uploads, "orphans", g.report.Orphans, "bytes", g.report.Freed, "dur", g.report.Took, "err", err)
	}
	if err != nil {
		return g.report, fmt.Errorf("collect garbage: %w", err)
	}
	return g.report, nil
}

// collection is one run of a Collector.
type collection struct {
	c      *Collector
	s      *Store
	now    time.Time
	grace  time.Duration
	dry    bool
	found  func(Collected)
	report CollectReport
	letGo  map[digest.Digest]bool // told of, and the bytes are there still

	// What would be gone by now, in a dry run.
	deadTags    map[TagRow]bool // Repo and Tag alone
	deadContent map[right]bool
	deadBlobs   map[digest.Digest]bool
}

const (
	// collectBatch is how many rows are looked at in one transaction.
	collectBatch = 1000
	// collectWrites is how many go in one.
	collectWrites = 100
	// collectRounds bounds how often a repository is gone through: once for
	// each level of manifests, the last time to find nothing.
	collectRounds = 16
)

func (g *collection) all(ctx context.Context) error {
	if g.dry {
		g.deadTags, g.deadContent, g.deadBlobs = map[TagRow]bool{}, map[right]bool{}, map[digest.Digest]bool{}
	}
	if err := g.uploads(ctx); err != nil {
		return err
	}
	for _, up := range g.c.o.Hosted {
		if err := g.upstream(ctx, up); err != nil {
			return fmt.Errorf("of %s: %w", up, err)
		}
	}
	for range collectRounds {
		n, err := g.blobs(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if err := g.orphans(ctx); err != nil {
		return err
	}
	return g.lists(ctx)
}

// orphans removes what crashes left: bytes without a row, and files of uploads
// and partials without one. Nobody is about to give them one: that is done with
// the digest locked, or with the upload known.
func (g *collection) orphans(ctx context.Context) error {
	list, err := g.s.orphans(ctx)
	if err != nil {
		return err
	}
	for _, o := range list.orphans {
		var gone bool
		if g.dry {
			gone, err = g.s.ifOrphan(ctx, o, func() error { return nil })
		} else {
			gone, err = g.s.sweep(ctx, o)
		}
		if err != nil {
			return err
		}
		if gone {
			g.report.Freed += o.size
			g.tell(Collected{What: CollectedOrphan, Digest: o.d, Upload: o.upload(), Bytes: o.size, Reason: "a crash left it"})
		}
	}
	return nil
}

// lists forgets what upstreams listed for subjects that are not here and that
// nobody has asked about for as long as makes a manifest garbage. That they are
// gone shows nowhere: they are asked for again.
func (g *collection) lists(ctx context.Context) error {
	if g.dry || g.c.o.Pulled <= 0 {
		return nil
	}
	var old []UpstreamReferrersRow
	err := g.s.View(ctx, sure(func(tx Tx) error {
		old = nil
		return tx.AllUpstreamReferrers(func(row UpstreamReferrersRow) error {
			if g.now.Sub(row.Checked) > g.c.o.Pulled {
				old = append(old, UpstreamReferrersRow{Repo: row.Repo, Subject: row.Subject})
			}
			return ctx.Err()
		})
	}))
	for batch := range slices.Chunk(old, collectWrites) {
		if err != nil {
			break
		}
		err = g.s.Update(ctx, sure(func(tx Tx) error {
			for _, row := range batch {
				if _, err := tx.Manifest(row.Subject); !errors.Is(err, ErrNotFound) {
					continue
				}
				if err := tx.DeleteUpstreamReferrers(row.Repo, row.Subject); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return err
}

// tell counts what goes, and whoever asked hears of it.
func (g *collection) tell(x Collected) {
	r := &g.report
	switch x.What {
	case CollectedTag:
		r.Tags++
	case CollectedManifest:
		r.Manifests++
	case CollectedBlob:
		r.Blobs++
	case CollectedMade:
		r.Made++
	case CollectedUpload:
		r.Uploads++
	case CollectedOrphan:
		r.Orphans++
	}
	if g.found != nil {
		g.found(x)
	}
}

// uploads cancels those that nobody has gone on with.
func (g *collection) uploads(ctx context.Context) error {
	if g.c.o.Uploads <= 0 {
		return nil
	}
	var old []UploadRow
	err := g.s.View(ctx, sure(func(tx Tx) error {
		old = nil
		return tx.Uploads(func(row UploadRow) error {
			if g.now.Sub(row.Touched) > g.c.o.Uploads {
				old = append(old, row)
			}
			return ctx.Err()
		})
	}))
	if err != nil {
		return err
	}
	for _, row := range old {
		gone, err := g.cancel(ctx, row)
		if err != nil {
			return err
		}
		if gone {
			g.report.Freed += row.Size
			g.tell(Collected{What: CollectedUpload, Repo: row.Repo.String(), Upload: row.ID, Bytes: row.Size, Reason: "given up: its client has not gone on with it since " + row.Touched.UTC().Format(time.RFC3339)})
		}
	}
	return nil
}

// claimUpload is how long an upload is waited for: who has it goes on with it.
const claimUpload = 10 * time.Millisecond

func (g *collection) cancel(ctx context.Context, row UploadRow) (bool, error) {
	if g.dry {
		return true, nil
	}
	cctx, cancel := context.WithTimeout(ctx, claimUpload)
	defer cancel()
	u, err := g.s.OpenUpload(cctx, row.Repo, row.ID)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrBusy) {
		return false, ctx.Err()
	}
	if err != nil {
		return false, err
	}
	defer u.Release()
	if g.now.Sub(u.row.Touched) <= g.c.o.Uploads {
		return false, nil // a request came in between
	}
	return true, u.Cancel(ctx)
}
