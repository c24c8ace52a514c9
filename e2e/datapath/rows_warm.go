package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// warmRounds is how often each load is made on each server. The median of the
// calmest counts: those in which other programs took least of the machine.
const (
	warmRounds = 7
	calmest    = 4
)

// warm is load on what is cached: the same from one process on each server, in
// turns. Without a proxy it is the registry itself, which only copies files.
func (b *bench) warm(ctx context.Context, loads []load) ([]*row, error) {
	servers := []*server{{kind: direct, addr: b.upstream[len("http://"):], proc: b.registry, http: newClient()}}
	for _, k := range everyone[1:] {
		s, err := b.start(ctx, k, conditions{link: wide})
		if err != nil {
			return nil, err
		}
		defer b.stop(s)
		if x := b.pull(ctx, s); x.fault != "" {
			return nil, fmt.Errorf("fill %s: %s", k, x.fault)
		}
		if k == sociable { // indexing is over
			if _, err := b.awaitIndex(ctx, s); err != nil {
				return nil, err
			}
		}
		servers = append(servers, s)
	}
	var rows []*row
	for _, l := range loads {
		r, err := b.loadRow(ctx, servers, l)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", l.name, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// load is one row of warm.
type load struct {
	name, target string
	spec         loadSpec
	path         func(*server) string
	format       func([]loadResult) string
	judge        func(r *row, ours []loadResult, best peerResults)
}

// peerResults are of the peer with the most requests a second.
type peerResults struct {
	kind kind
	all  []loadResult
}

func (b *bench) warmWhole(ctx context.Context) ([]*row, error) {
	spec := loadSpec{Seconds: 2, Status: http.StatusOK, File: b.catalog.blobPath(b.layer().Digest), Check: 16}
	return b.warm(ctx, []load{
		{"warm full GET, one client", "≥ best peer, ≤ its CPU s/GiB",
			with(spec, func(s *loadSpec) { s.Clients = 1 }), b.layerPath, throughput, judgeThroughput},
		{"warm full GET, 4 at once", "≥ best peer, ≤ its CPU s/GiB",
			with(spec, func(s *loadSpec) { s.Clients = 4 }), b.layerPath, throughput, judgeThroughput},
	})
}

func (b *bench) warmRanges(ctx context.Context) ([]*row, error) {
	spec := loadSpec{Seconds: 2, Status: http.StatusPartialContent, File: b.catalog.blobPath(b.layer().Digest), Clients: 8}
	return b.warm(ctx, []load{
		{"warm 4 MiB ranges, 8 at once", "≥ 1.15 × best peer, p99 and CPU s/GiB no worse",
			with(spec, func(s *loadSpec) { s.Range, s.Check = 4<<20, 16 }), b.layerPath, rate, judgeRanges},
		{"warm 64 KiB ranges, 8 at once", "≥ 0.8 × nginx",
			with(spec, func(s *loadSpec) { s.Range, s.Check = 64<<10, 64 }), b.layerPath, rate, judgeSmallRanges},
	})
}

func (b *bench) warmManifests(ctx context.Context) ([]*row, error) {
	im := b.catalog.Big
	tag := func(s *server) string { return s.manifest(im, im.Tag) }
	byDigest := func(s *server) string { return s.manifest(im, im.Manifest.Digest.String()) }
	spec := loadSpec{Seconds: 1.5, Status: http.StatusOK, File: b.catalog.blobPath(im.Manifest.Digest), Check: 1, Accept: v1.MediaTypeImageManifest}
	return b.warm(ctx, []load{
		{"warm tag GET, one client", "≤ 0.3 ms, 0 upstream requests",
			with(spec, func(s *loadSpec) { s.Clients = 1 }), tag, latency, judgeTag},
		{"warm manifest by digest, 8 at once", "≥ 16,000 a second",
			with(spec, func(s *loadSpec) { s.Clients = 8 }), byDigest, latency, judgeManifest},
	})
}

// with is spec, changed.
func with(spec loadSpec, change func(*loadSpec)) loadSpec {
	change(&spec)
	return spec
}

func (b *bench) loadRow(ctx context.Context, servers []*server, l load) (*row, error) {
	r := newRow(l.name, l.target)
	results := map[kind][]loadResult{}
	for round := range warmRounds {
		for _, s := range inTurn(servers, round) {
			x, err := b.loadOnce(ctx, s, l)
			if err != nil && (s.kind == sociable || s.kind == direct || ctx.Err() != nil) {
				return nil, fmt.Errorf("%s: %w", s.kind, err)
			}
			if err != nil {
				r.Cells[s.kind] = err.Error()
				continue
			}
			if b.verbose {
				b.log("%s %s: %+v", l.name, s.kind, x)
			}
			results[s.kind] = append(results[s.kind], x)
			if s.kind == sociable {
				r.must(len(s.link.Requests()) == 0, "%s upstream", requests(len(s.link.Requests())))
			}
		}
	}
	var best peerResults
	for _, s := range servers {
		all := results[s.kind]
		if len(all) == 0 {
			continue
		}
		slices.SortFunc(all, func(x, y loadResult) int { return cmp.Compare(x.others, y.others) })
		all = all[:min(calmest, len(all))]
		results[s.kind] = all
		r.Cells[s.kind] = l.format(all)
		if s.kind != direct && s.kind != sociable && (best.all == nil || median(all, loadResult.perSecond) > median(best.all, loadResult.perSecond)) {
			best = peerResults{s.kind, all}
		}
	}
	l.judge(r, results[sociable], best)
	return r, nil
}

// inTurn has each server begin a round, and the ways around alternate: none always
// comes behind the same one, or first after a pause.
func inTurn(servers []*server, round int) []*server {
	n := round / 2 % len(servers)
	order := slices.Concat(servers[n:], servers[:n])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// loadOnce makes one load on one server. Nothing of it is due to be looked up
// again: that was just done.
func (b *bench) loadOnce(ctx context.Context, s *server, l load) (x loadResult, err error) {
	if a := s.get(ctx, l.path(s), span{0, 1}, nil); a.err != nil {
		return x, a.err
	}
	if s.link != nil {
		s.link.Forget()
	}
	l.spec.Addr, l.spec.Path, l.spec.PID = s.addr, l.path(s), s.proc.PID()
	share, err := b.others.watch(ctx, func() error {
		x, err = b.generate(ctx, l.spec)
		return err
	})
	x.others = share
	return x, err
}

// generate makes a load from a process of its own.
func (b *bench) generate(ctx context.Context, spec loadSpec) (loadResult, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(spec.Seconds)*time.Second+time.Minute)
	defer cancel()
	in, err := json.Marshal(spec)
	if err != nil {
		return loadResult{}, err
	}
	cmd := exec.CommandContext(ctx, b.self, "load")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return loadResult{}, fmt.Errorf("load on %s: %w", spec.Path, err)
	}
	var r loadResult
	return r, json.Unmarshal(out, &r)
}

func p99(r loadResult) float64 { return r.P99 }
func p50(r loadResult) float64 { return r.P50 }

func throughput(all []loadResult) string {
	return fmt.Sprintf("%.0f MiB/s, %.3f CPU s/GiB", median(all, loadResult.mibPerSecond), median(all, loadResult.perGiB))
}

func rate(all []loadResult) string {
	return fmt.Sprintf("%.0f/s, p99 %s, %.3f CPU s/GiB", median(all, loadResult.perSecond), seconds(median(all, p99)), median(all, loadResult.perGiB))
}

func latency(all []loadResult) string {
	return fmt.Sprintf("%s, %.0f/s, p99 %s, %.0f CPU µs each", seconds(median(all, p50)), median(all, loadResult.perSecond),
		seconds(median(all, p99)), 1e6*median(all, loadResult.perRequest))
}

func judgeThroughput(r *row, ours []loadResult, best peerResults) {
	ratio := median(ours, loadResult.perSecond) / median(best.all, loadResult.perSecond)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × %s)", ratio, best.kind)
	r.time(ratio >= 1, "%.2f × %s", ratio, best.kind)
	r.processor(ours, best)
}

func judgeRanges(r *row, ours []loadResult, best peerResults) {
	ratio := median(ours, loadResult.perSecond) / median(best.all, loadResult.perSecond)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × %s)", ratio, best.kind)
	r.time(ratio >= 1.15, "%.2f × %s", ratio, best.kind)
	a, b := median(ours, p99), median(best.all, p99)
	r.time(a <= b, "p99 %s, %s's %s", seconds(a), best.kind, seconds(b))
	r.processor(ours, best)
}

// processor compares processor time for each byte.
func (r *row) processor(ours []loadResult, best peerResults) {
	a, b := median(ours, loadResult.perGiB), median(best.all, loadResult.perGiB)
	r.time(a <= b, "%.3f CPU s/GiB, %s's %.3f", a, best.kind, b)
}

func judgeSmallRanges(r *row, ours []loadResult, best peerResults) {
	ratio := median(ours, loadResult.perSecond) / median(best.all, loadResult.perSecond)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × %s)", ratio, best.kind)
	r.time(ratio >= 0.8, "%.2f × %s", ratio, best.kind)
}

func judgeTag(r *row, ours []loadResult, _ peerResults) {
	r.time(median(ours, p50) <= 0.0003, "%s", seconds(median(ours, p50)))
}

func judgeManifest(r *row, ours []loadResult, _ peerResults) {
	n := median(ours, loadResult.perSecond)
	r.time(n >= 16000, "%.0f a second", n)
}
