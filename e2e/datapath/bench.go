package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sociable/sociable/e2e/harness"
)

// bench is one run of the benchmark.
type bench struct {
	life     context.Context // of every process that is started
	self     string          // this program
	cache    string          // folder of what outlives a run
	work     string          // folder of what doesn't
	verbose  bool
	others   others
	catalog  *catalog
	big      []byte // the layer of image big
	upstream string // URL of the registry, without a link

	sociable         string // programs
	nginxPath        string
	distributionPath string
	setprivPath      string

	registry *harness.Process
	kept     *kept      // what this run and earlier ones measured
	at       *keptSuite // at work
}

// suite is a group of rows that are measured together.
type suite struct {
	id    string
	limit time.Duration // the run goes on without it after that
	run   func(*bench, context.Context) ([]*row, error)
}

// suites are in the order of the table. Memory is the last, as it tells the
// peak of all.
var suites = []suite{
	{"cold-pull", 6 * time.Minute, (*bench).coldPull},
	{"cold-head", time.Minute, (*bench).coldHead},
	{"cold-range", 3 * time.Minute, (*bench).coldRange},
	{"random-ranges", 3 * time.Minute, (*bench).randomRanges},
	{"span", 2 * time.Minute, (*bench).indexedSpan},
	{"small-layers", 2 * time.Minute, (*bench).smallLayers},
	{"crowd-pull", 6 * time.Minute, (*bench).crowdPull},
	{"distinct-ranges", 4 * time.Minute, (*bench).distinctRanges},
	{"crowd-range", 3 * time.Minute, (*bench).crowdRange},
	{"warm-whole", 5 * time.Minute, (*bench).warmWhole},
	{"warm-ranges", 5 * time.Minute, (*bench).warmRanges},
	{"warm-manifests", 5 * time.Minute, (*bench).warmManifests},
	{"cut", 5 * time.Minute, (*bench).cutUpstream},
	{"stall", 3 * time.Minute, (*bench).stalledUpstream},
	{"corrupt", 2 * time.Minute, (*bench).corruptUpstream},
	{"leave", 2 * time.Minute, (*bench).leaveAtThird},
	{"open-ended", 2 * time.Minute, (*bench).openEnded},
	{"silent", 2 * time.Minute, (*bench).silentUpstream},
	{"memory", 4 * time.Minute, (*bench).memory},
}

// prepare finds and makes what the rows need. The caller closes the bench.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.findPeers(); err != nil {
		return err
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if err := b.findSociable(ctx); err != nil {
		return err
	}
	if b.catalog, err = openCatalog(b.cache); err != nil {
		return err
	}
	if b.big, err = mapFile(b.catalog.blobPath(b.layer().Digest)); err != nil {
		return err
	}
	if got := b.layer().Digest.Algorithm().FromBytes(b.big); got != b.layer().Digest {
		return fmt.Errorf("%s is spoilt (%s): remove it", b.catalog.root, got)
	}
	if b.work, err = os.MkdirTemp(b.work, "datapath-"); err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	if b.registry, err = harness.Spawn(b.life, nil, b.self, "registry", b.cache, addr); err != nil {
		return err
	}
	b.upstream = "http://" + addr
	s := &server{kind: direct, addr: addr, proc: b.registry, http: newClient()}
	return s.await(ctx)
}

func (b *bench) close() {
	if b.registry != nil {
		b.registry.Kill()
	}
	if b.work != "" {
		_ = os.RemoveAll(b.work) // in a folder for such things
	}
}

// findSociable builds the product, unless it was given.
func (b *bench) findSociable(ctx context.Context) (err error) {
	if b.sociable != "" {
		b.sociable, err = filepath.Abs(b.sociable)
		return err
	}
	b.sociable = filepath.Join(b.cache, "sociable")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.sociable, "github.com/sociable/sociable/cmd/sociable")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build sociable: %w\n%s", err, out)
	}
	return nil
}

// runAll measures the chosen suites and keeps the rows, also of suites that
// failed half-way. The error is about those.
func (b *bench) runAll(ctx context.Context, chosen map[string]bool) error {
	var errs []error
	for i, x := range suites {
		if !chosen[x.id] {
			continue
		}
		start := time.Now()
		b.at = &keptSuite{ID: x.id, Place: i, Date: start.UTC().Format(time.DateOnly), Commit: b.commit(ctx)}
		b.others.shares = nil
		sctx, cancel := context.WithTimeout(ctx, x.limit)
		rs, err := x.run(b, sctx)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", x.id, err))
			b.log("%s: %v", x.id, err)
		}
		for _, r := range rs {
			b.log("%s: %s: sociable %s: %s", x.id, r.Name, r.Cells[sociable], r.verdict())
			for _, f := range r.Faults {
				errs = append(errs, fmt.Errorf("%s: %s: %s", x.id, r.Name, f))
			}
		}
		b.at.Rows, b.at.Others = rs, b.others.shares
		if len(rs) > 0 {
			b.kept.put(b.at)
		}
		b.log("%s took %.0f s", x.id, time.Since(start).Seconds())
	}
	return errors.Join(errs...)
}

func (b *bench) log(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// sample is one measurement.
type sample struct {
	took, first float64 // seconds
	requests    int     // at the link
	blobs       int     // of them for the blob that was asked for most often
	bytes       int64   // of bodies at the link
	twice       int64   // bytes of a blob that passed the link more than once
	fault       string  // what was wrong; "" if nothing was
	note        string
}

// patience is how long a peer may take for one measurement.
const patience = 30 * time.Second

// once measures f on a fresh server. What the server goes on to fetch after
// the client has what it wanted is counted for as long as lag.
func (b *bench) once(ctx context.Context, k kind, c conditions, lag time.Duration, f func(context.Context, *server) sample) (sample, error) {
	s, err := b.start(ctx, k, c)
	if err != nil {
		return sample{}, err
	}
	defer b.stop(s)
	mctx, cancel := ctx, context.CancelFunc(func() {})
	if k == nginx || k == distribution {
		mctx, cancel = context.WithTimeout(ctx, patience)
	}
	defer cancel()
	var x sample
	if _, err := b.others.watch(ctx, func() error { x = f(mctx, s); return nil }); err != nil {
		return x, err
	}
	if mctx.Err() != nil && x.fault != "" {
		x.fault = fmt.Sprintf("> %.0f s", patience.Seconds())
	}
	s.settle(ctx, lag)
	x.count(s)
	if k == direct && x.fault != "" {
		return x, fmt.Errorf("without a proxy: %s", x.fault)
	}
	return x, context.Cause(ctx)
}

// times says how often a kind is measured.
type times map[kind]int

// rounds measures every kind as often as n says, in turns, so that what else
// the machine does hits all of them.
func (b *bench) rounds(ctx context.Context, n times, c conditions, lag time.Duration, f func(ctx context.Context, s *server, round int) sample) (map[kind][]sample, error) {
	all := map[kind][]sample{}
	for round := range slices.Max([]int{n[direct], n[sociable], n[nginx], n[distribution]}) {
		for _, k := range everyone {
			if round >= n[k] {
				continue
			}
			x, err := b.once(ctx, k, c, lag, func(ctx context.Context, s *server) sample { return f(ctx, s, round) })
			if err != nil {
				return all, err
			}
			if b.verbose {
				b.log("%s %d %s: %+v", b.at.ID, round, k, x)
			}
			all[k] = append(all[k], x)
		}
	}
	return all, nil
}
