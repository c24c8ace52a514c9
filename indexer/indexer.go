package indexer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/oci"
)

// Options are what New needs. Only Store is required.
type Options struct {
	Store    Store
	Rules    []Rule // the first that matches an image decides; none: the image is not indexed. See SetRules
	Disabled bool   // nothing new is indexed or listed; what is there stays
	// Fetch brings what nobody has pulled; nil: nothing is converted or fetched.
	Fetch Fetcher
	// Asks reports whether the upstream of repo may be asked for what was evicted;
	// nil: each may.
	Asks func(repo oci.Repo) bool
	// Publish puts what was made here into upstreams; nil: nothing is.
	Publish Publisher
	// List lists what upstreams have; nil: only what is known here is found.
	List Lister
	// Flight tells of fetches under way, and Bring begins one without waiting for
	// it; nil: there are none.
	Flight Flight
	Bring  func(repo oci.Repo, d v1.Descriptor)
	// Busy reports that clients have much to do here: no further layer is then
	// indexed from the store, or fetched for it, but for what Coming was asked
	// about of late. nil: never.
	Busy func() bool
	// WaitMax is how long a client is held at most for what Coming says. 0: 20 s.
	WaitMax time.Duration
	// RetireAfter is how long what is listed no more can still be read. 0: 24 h.
	RetireAfter time.Duration
	// Learned offers what was learnt of starts (storage.LearnRow), as prefetch
	// artifacts, beside each index.
	Learned bool
	// PushWait is how long Listed waits at most; 0: not at all.
	PushWait time.Duration
	// OnlyAsked leaves alone all images but those that Want named: for who has a
	// store open that is a server's.
	OnlyAsked bool
	Workers   int // layers indexed from the store at once, besides one that Coming was asked about; 0: 1
	MaxTaps   int // layers indexed from streams at once; 0: 8
	// Limits are what a layer may cost: it may be made to cost much. Zero values
	// are no bound on uncompressed bytes, 10 million files, and zTOCs of 64 MiB.
	Limits     Limits
	Events     Events                // nil: nobody is told of anything
	SpillDir   string                // for builds too big for memory; "": os.TempDir
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is measured
	Now        func() time.Time      // nil: time.Now
}

// Indexer makes SOCI indexes of images as they pass. All methods are safe for
// concurrent use. Manifest, Tap, Whole and Passed may be called before Run begins and
// after it has ended: what they ask for is then done by the next Run.
type Indexer struct {
	opt        Options
	store      Store
	log        *slog.Logger
	m          *metrics
	now        func() time.Time
	limits     Limits
	newBuilder func(spanSize int64, c compression, layerSize int64) (builder, error)

	slots   chan struct{} // one held by each running tap
	toDo    chan struct{} // wakes dispatch
	toLease chan struct{} // wakes a worker
	toRetry chan struct{} // wakes republish
	toTask  chan struct{} // wakes workTasks

	toResume chan struct{} // wakes resume
	toStop   chan struct{} // wakes stopCancelled

	toAwaited chan struct{} // wakes awaitedWorker

	rules atomic.Pointer[ruleSet]

	mu      sync.Mutex
	taps    []tapRequest               // not looked at yet
	pushes  []*pushed                  // not looked at yet
	whole   map[digest.Digest]struct{} // not looked at yet
	passed  map[digest.Digest]oci.Repo // not looked at yet
	retry   map[digest.Digest]struct{} // image manifests whose publication went wrong
	claimed map[key]*atomic.Int64      // being built by this process: bytes read
	awaited map[key]*awaited           // wanted by clients that are held; some no longer are
	streams map[key]*pushed            // those of them that come from uploads

	building map[*pushed]struct{} // what has a slot

	running map[work]context.CancelCauseFunc // by this process

	moved    map[movedTag]struct{} // tags whose new image is to be indexed
	unpulled map[digest.Digest]int // manifests that are being fetched for our own purposes
}

type movedTag struct {
	repo oci.Repo
	tag  string
}

// key names one layer at one span size, the unit of work.
type key struct {
	layer    digest.Digest
	spanSize int64
}

// New makes an Indexer. It does nothing by itself until Run.
func New(o Options) *Indexer {
	if o.Workers <= 0 {
		o.Workers = 1
	}
	if o.MaxTaps <= 0 {
		o.MaxTaps = 8
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RetireAfter <= 0 {
		o.RetireAfter = 24 * time.Hour
	}
	if o.WaitMax <= 0 {
		o.WaitMax = defaultWaitMax
	}
	if o.Events == nil {
		o.Events = noEvents{}
	}
	x := &Indexer{
		opt: o, store: o.Store, log: o.Logger, m: newMetrics(o.Registerer), now: o.Now, limits: o.Limits.complete(),
		slots: make(chan struct{}, o.MaxTaps),
		toDo:  make(chan struct{}, 1), toLease: make(chan struct{}, 1), toRetry: make(chan struct{}, 1), toTask: make(chan struct{}, 1), toResume: make(chan struct{}, 1), toStop: make(chan struct{}, 1),
		toAwaited: make(chan struct{}, 1), awaited: map[key]*awaited{},
		whole:   map[digest.Digest]struct{}{},
		passed:  map[digest.Digest]oci.Repo{},
		retry:   map[digest.Digest]struct{}{},
		claimed: map[key]*atomic.Int64{}, streams: map[key]*pushed{}, building: map[*pushed]struct{}{},
		running: map[work]context.CancelCauseFunc{},
		moved:   map[movedTag]struct{}{}, unpulled: map[digest.Digest]int{},
	}
	x.rules.Store(newRuleSet(o.Rules))
	x.newBuilder = x.zTOCBuilder
	(&queueAge{store: o.Store, now: o.Now}).register(o.Registerer)
	return x
}

// Run does the work until ctx ends, and returns nil when all of it has
// stopped. It begins with what the rows say was left undone: images that the
// rules of today see differently, layers that are wanted and whole in the
// store, images of which all layers are through. It is called once. An error
// is one of the rows, at the start.
func (x *Indexer) Run(ctx context.Context) error {
	if x.opt.Disabled {
		<-ctx.Done()
		return nil
	}
	if err := x.countJobs(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was stopped before it began
		}
		return err
	}
	if err := x.adoptTaken(ctx); err != nil && ctx.Err() == nil {
		x.log.ErrorContext(ctx, "converted images may change", "err", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return x.dispatch(ctx) })
	if !x.opt.OnlyAsked {
		g.Go(func() error { return x.resume(ctx) })
		g.Go(func() error { return x.sweep(ctx) })
	}
	g.Go(func() error { return x.republish(ctx) })
	g.Go(func() error { return x.stopCancelled(ctx) })
	for range taskWorkers {
		if x.opt.Fetch != nil {
			g.Go(func() error { return x.workTasks(ctx) })
		}
	}
	for range x.opt.Workers {
		g.Go(func() error { return x.worker(ctx) })
	}
	g.Go(func() error { return x.awaitedWorker(ctx) })
	return g.Wait()
}

// dispatch starts the taps that were asked for and files jobs for blobs that
// became whole. It owns the taps.
func (x *Indexer) dispatch(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		taps, pushes, whole, passed := x.pending()
		for _, t := range taps {
			x.startTaps(ctx, &running, t)
		}
		for _, p := range pushes {
			x.startPush(ctx, &running, p)
		}
		x.enqueue(ctx, whole, passed)
		select {
		case <-x.toDo:
		case <-ctx.Done():
			_, pushes, _, _ := x.pending()
			for _, p := range pushes {
				_ = p.rc.Close() // only read from
				x.end(p, errNotRun)
			}
			return nil
		}
	}
}

func (x *Indexer) pending() ([]tapRequest, []*pushed, []digest.Digest, map[digest.Digest]oci.Repo) {
	x.mu.Lock()
	defer x.mu.Unlock()
	taps, pushes, passed := x.taps, x.pushes, x.passed
	x.taps, x.pushes, x.passed = nil, nil, map[digest.Digest]oci.Repo{}
	whole := make([]digest.Digest, 0, len(x.whole))
	for d := range x.whole {
		whole = append(whole, d)
	}
	clear(x.whole)
	return taps, pushes, whole, passed
}

// claim takes k for the caller, unless somebody has it.
func (x *Indexer) claim(k key) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, taken := x.claimed[k]; taken {
		return false
	}
	x.claimLocked(k)
	return true
}

func (x *Indexer) claimLocked(k key) { x.claimed[k] = new(atomic.Int64) }

// release gives k back; a job that waited behind it can go on.
func (x *Indexer) release(k key) {
	x.mu.Lock()
	delete(x.claimed, k)
	delete(x.awaited, k)
	x.mu.Unlock()
	wake(x.toLease)
}

func (x *Indexer) isClaimed(k key) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, taken := x.claimed[k]
	return taken
}

// wake leaves a note in a channel of one place; one note is enough.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits for d, or for ctx to end.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
