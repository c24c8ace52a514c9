package prewarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/oci"
)

// Images is what prewarming needs of the proxy.
type Images interface {
	Name(word string) (oci.Repo, oci.Reference, error)
	Pull(ctx context.Context, repo oci.Repo, ref oci.Reference, o oci.PullOptions) (oci.PulledImage, error)
	// TagsOf lists a repository's tags as its upstream does.
	TagsOf(ctx context.Context, repo oci.Repo) ([]string, error)
	// Active is how many clients' requests are being answered.
	Active() int
}

// Schedule says when to look next.
type Schedule interface{ Next(time.Time) time.Time }

// Job is images that are followed together.
type Job struct {
	// Images are references; in the tag, * is any run of characters, ? any one.
	Images    []string
	Platforms []v1.Platform // none: all
	Schedule  Schedule
}

// Options are what New needs. Images is required.
type Options struct {
	Images     Images
	Jobs       []Job
	Parallel   int                   // images at once, of all jobs; 0: 1
	PauseAbove int                   // no blob is begun while more requests of clients are answered
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is measured
	Now        func() time.Time      // nil: time.Now
}

// Prewarmer follows images. Run is called once.
type Prewarmer struct {
	opt   Options
	log   *slog.Logger
	slots chan struct{}
	jobs  []*follower
	m     metrics
}

type metrics struct {
	images *prometheus.CounterVec
	bytes  prometheus.Counter
	last   *prometheus.GaugeVec
	paused prometheus.Gauge
}

// Results of one look at one image, as labels.
const (
	resultSame   = "same"   // all of it was here
	resultPulled = "pulled" // something of it was not
	resultFailed = "failed"
)

// New makes a Prewarmer.
func New(o Options) *Prewarmer {
	if o.Parallel < 1 {
		o.Parallel = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := promauto.With(o.Registerer)
	p := &Prewarmer{opt: o, log: o.Logger, slots: make(chan struct{}, o.Parallel), m: metrics{
		images: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_prewarm_images_total", Help: "Looks at followed images, by result.",
		}, []string{"result"}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "sociable_prewarm_bytes_total", Help: "Bytes of followed images that were not here and came.",
		}),
		last: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sociable_prewarm_last_success_timestamp_seconds", Help: "When a look at all images of a job last ended without a failure, as Unix time; 0: not since the start. The entry is its place in prewarm.jobs, from 0.",
		}, []string{"entry"}),
		paused: f.NewGauge(prometheus.GaugeOpts{
			Name: "sociable_prewarm_paused", Help: "Transfers that wait until clients are less busy.",
		}),
	}}
	for i := range o.Jobs {
		f := newFollower(&o.Jobs[i])
		f.last = p.m.last.WithLabelValues(strconv.Itoa(i))
		p.jobs = append(p.jobs, f)
	}
	for _, r := range []string{resultSame, resultPulled, resultFailed} {
		p.m.images.WithLabelValues(r) // so that a rate exists from the start
	}
	return p
}

// Run looks at the images of all jobs, now and on their schedules, and at those
// that are Pushed, until ctx ends; it returns nil when all work has stopped.
func (p *Prewarmer) Run(ctx context.Context) error {
	var jobs sync.WaitGroup
	for _, f := range p.jobs {
		jobs.Go(func() { p.follow(ctx, f) })
	}
	jobs.Wait()
	<-ctx.Done()
	return nil
}

func (p *Prewarmer) follow(ctx context.Context, f *follower) {
	for ctx.Err() == nil {
		if p.look(ctx, f.Job, f.Images) {
			f.last.Set(float64(p.opt.Now().Unix()))
		}
		p.rest(ctx, f)
	}
}

// rest returns when it is time for f again, and looks meanwhile at what is pushed.
func (p *Prewarmer) rest(ctx context.Context, f *follower) {
	var due <-chan time.Time // never, where the schedule is of a date that never comes
	if next := f.Schedule.Next(p.opt.Now()); !next.IsZero() {
		t := time.NewTimer(next.Sub(p.opt.Now()))
		defer t.Stop()
		due = t.C
	}
	for {
		select {
		case <-due:
			return
		case <-f.wake:
			p.look(ctx, f.Job, f.take(ctx))
		case <-ctx.Done():
			return
		}
	}
}

// look goes through images of a job once, and reports whether all are here.
func (p *Prewarmer) look(ctx context.Context, j *Job, words []string) bool {
	failed := false
	var names []string
	for _, word := range words {
		found, err := p.expand(ctx, word)
		if err != nil {
			failed = true
			p.fail(ctx, word, err)
		}
		names = append(names, found...)
	}
	var g errgroup.Group
	var mu sync.Mutex
	for _, name := range names {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			_ = g.Wait() // they have said what went wrong
			return false
		}
		g.Go(func() error {
			defer func() { <-p.slots }()
			if err := p.pull(ctx, name, j.Platforms); err != nil {
				mu.Lock()
				failed = true
				mu.Unlock()
				p.fail(ctx, name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // see above
	return !failed && ctx.Err() == nil
}

func (p *Prewarmer) fail(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	p.m.images.WithLabelValues(resultFailed).Inc()
	p.log.WarnContext(ctx, "followed image not here", "name", name, "err", err)
}

// expand gives the images that word means: itself, or where its tag is a pattern
// those that there are.
func (p *Prewarmer) expand(ctx context.Context, word string) ([]string, error) {
	name, pattern := splitTag(word)
	if !strings.ContainsAny(pattern, "*?") {
		return []string{word}, nil
	}
	repo, _, err := p.opt.Images.Name(name)
	if err != nil {
		return nil, err
	}
	tags, err := p.opt.Images.TagsOf(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("list tags of %s: %w", repo, err)
	}
	var found []string
	for _, t := range tags {
		if ok, err := path.Match(pattern, t); err == nil && ok {
			found = append(found, name+":"+t)
		}
	}
	return found, nil
}

func (p *Prewarmer) pull(ctx context.Context, name string, platforms []v1.Platform) error {
	repo, ref, err := p.opt.Images.Name(name)
	if err != nil {
		return err
	}
	got, err := p.opt.Images.Pull(ctx, repo, ref, oci.PullOptions{Platforms: platforms, Strict: true, Gate: p.gate})
	p.m.bytes.Add(float64(got.Fetched))
	switch {
	case err != nil:
		return err
	case got.Unchecked != "":
		return errors.New("its tag could not be checked: " + got.Unchecked)
	case got.Fetched == 0:
		p.m.images.WithLabelValues(resultSame).Inc()
		return nil
	}
	p.m.images.WithLabelValues(resultPulled).Inc()
	p.log.InfoContext(ctx, "followed image pulled", "name", name, "digest", got.Root.Digest, "bytes", got.Fetched)
	return nil
}

// gateLook is how often it is looked whether clients are less busy.
const gateLook = 200 * time.Millisecond

// gate waits while clients are busy.
func (p *Prewarmer) gate(ctx context.Context) error {
	if p.opt.Images.Active() <= p.opt.PauseAbove {
		return nil
	}
	p.m.paused.Inc()
	defer p.m.paused.Dec()
	tick := time.NewTicker(gateLook)
	defer tick.Stop()
	for p.opt.Images.Active() > p.opt.PauseAbove {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
