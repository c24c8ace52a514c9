package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sociable/sociable/e2e/link"
)

const (
	hundred = 100 << 20 // where an upstream's answer breaks or is spoilt
	mega    = 1 << 20
)

// share is what passed the link, as a multiple of the layer.
func (b *bench) share(x sample) float64 { return float64(x.bytes) / float64(b.layer().Size) }

func (b *bench) timeAndShare(xs []sample) string {
	return fmt.Sprintf("%s, × %.3f bytes", seconds(median(xs, took)), worst(xs, b.share))
}

// cutUpstream breaks the first long answer after 100 MiB. What a peer asks for
// in slices has no byte there, and doesn't break.
func (b *bench) cutUpstream(ctx context.Context) ([]*row, error) {
	closed := newRow("upstream closes at 100 of 300 MiB", "unnoticed, × 1.00")
	reset := newRow("upstream resets at 100 of 300 MiB", "unnoticed, × 1.00")
	closed.Cells[direct], reset.Cells[direct] = "ends short", "ends short"
	if err := b.breakAnswer(ctx, closed, link.Close, 2); err != nil {
		return nil, err
	}
	return []*row{closed, reset}, b.breakAnswer(ctx, reset, link.Reset, 2)
}

// stalledUpstream says nothing more after 100 MiB.
func (b *bench) stalledUpstream(ctx context.Context) ([]*row, error) {
	r := newRow("upstream stalls at 100 of 300 MiB", "unnoticed, × 1.00, left after 5 s")
	r.Cells[direct] = "hangs"
	return []*row{r}, b.breakAnswer(ctx, r, link.Stall, 6)
}

// breakAnswer fills r with pulls whose first answer breaks; late is how many
// seconds longer than undisturbed they may take.
func (b *bench) breakAnswer(ctx context.Context, r *row, ends link.End, late float64) error {
	all, err := b.rounds(ctx, times{sociable: 3, nginx: 1, distribution: 1}, conditions{link: slow}, time.Second,
		func(ctx context.Context, s *server, _ int) sample {
			s.link.Inject(link.Fault{On: b.getLayer(), Times: 1, Cut: hundred, Ends: ends})
			return b.pull(ctx, s)
		})
	if err != nil {
		return err
	}
	r.fill(all, b.timeAndShare)
	ideal := float64(b.layer().Size)/float64(slow.BytesPerSecond) + 2*slow.Latency.Seconds()
	share, longer := worst(all[sociable], b.share), median(all[sociable], took)-ideal
	r.must(share < 1.005, "× %.3f bytes", share)
	r.time(longer <= late, "%.1f s longer than undisturbed", longer)
	return nil
}

// getLayer matches GETs of image big's layer at the link.
func (b *bench) getLayer() link.Match {
	return link.All(link.Method(http.MethodGet), link.Blob(b.layer().Digest))
}

// corruptUpstream spoils a byte of the layer. The first client must not take
// what it gets for whole, and the second, when the upstream is healed, gets
// what is right.
func (b *bench) corruptUpstream(ctx context.Context) ([]*row, error) {
	verdicts := map[kind]string{}
	all, err := b.rounds(ctx, times{sociable: 1, nginx: 1, distribution: 1}, conditions{link: wide}, time.Second,
		func(ctx context.Context, s *server, _ int) sample {
			s.link.Inject(link.Fault{On: b.getLayer(), WrongBytes: []int64{hundred + 123}})
			_, _ = b.getTag(ctx, s, b.catalog.Big) // the layer's answer is what counts
			a := s.get(ctx, b.layerPath(s), whole, b.big)
			s.settle(ctx, time.Second)
			told := a.err != nil || a.status != http.StatusOK
			kept := ""
			if s.kind == sociable {
				kept = b.storedLayer(s)
			}
			s.link.Heal()
			again := s.get(ctx, b.layerPath(s), whole, b.big).fault(http.StatusOK, b.layer().Size)
			verdicts[s.kind] = map[bool]string{true: "client told", false: "client not told"}[told] + ", the next: " + orRight(again)
			x := sample{fault: again}
			if !told {
				x.fault = "a complete wrong body"
			}
			if kept != "" {
				x.fault = "kept: " + kept
			}
			return x
		})
	if err != nil {
		return nil, err
	}
	r := newRow("corrupt upstream blob", "client told, nothing kept")
	r.fill(all, func([]sample) string { return "" })
	r.Cells[direct] = "client not told"
	for k, v := range verdicts {
		r.Cells[k] = v
	}
	return []*row{r}, nil
}

func orRight(fault string) string {
	if fault == "" {
		return "right"
	}
	return fault
}

// storedLayer is the file of image big's layer in sociable's store, "" if there
// is none.
func (b *bench) storedLayer(s *server) (found string) {
	_ = filepath.WalkDir(filepath.Join(s.proxy.Data, "blobs"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Name() == b.layer().Digest.Encoded() {
			found = e.Name()
		}
		return nil // what vanishes meanwhile is not stored
	})
	return found
}

// leaveAtThird is a client that hangs up at 100 MiB, and one that comes then.
func (b *bench) leaveAtThird(ctx context.Context) ([]*row, error) {
	all, err := b.rounds(ctx, times{sociable: 1, nginx: 1, distribution: 1}, conditions{link: slow}, time.Second,
		func(ctx context.Context, s *server, _ int) sample {
			start := time.Now()
			if _, fault := b.getTag(ctx, s, b.catalog.Big); fault != "" {
				return sample{fault: fault}
			}
			a := s.getFirst(ctx, b.layerPath(s), whole, b.big, hundred)
			if a.err != nil || a.wrong || a.status != http.StatusOK {
				return sample{fault: fmt.Sprintf("the first client: status %d, %v", a.status, a.err)}
			}
			a = s.get(ctx, b.layerPath(s), whole, b.big)
			return sample{took: time.Since(start).Seconds(), fault: a.fault(http.StatusOK, b.layer().Size)}
		})
	if err != nil {
		return nil, err
	}
	r := newRow("client leaves at 1/3, another comes", "× 1.00")
	r.fill(all, b.timeAndShare)
	r.must(b.share(all[sociable][0]) < 1.005, "× %.3f", b.share(all[sociable][0]))
	return []*row{r}, nil
}

// openEnded is a client that asks for everything behind a place, reads 1 MiB
// of it and hangs up.
func (b *bench) openEnded(ctx context.Context) ([]*row, error) {
	all, err := b.rounds(ctx, times{direct: 3, sociable: 5, nginx: 3, distribution: 1}, conditions{link: slow}, 8*time.Second,
		func(ctx context.Context, s *server, round int) sample {
			if _, fault := b.getTag(ctx, s, b.catalog.Big); fault != "" {
				return sample{fault: fault}
			}
			s.link.Forget()
			r := span{50<<20 + int64(round)*40<<20 + 777, -1}
			a := s.getFirst(ctx, b.layerPath(s), r, b.big, mega)
			x := sample{took: a.took.Seconds()}
			want := fmt.Sprintf("bytes %d-%d/%d", r.off, b.layer().Size-1, b.layer().Size)
			switch got := a.header.Get("Content-Range"); {
			case a.err != nil:
				x.fault = a.err.Error()
			case a.status != http.StatusPartialContent:
				x.fault = fmt.Sprintf("status %d", a.status)
			case got != want:
				x.fault = fmt.Sprintf("Content-Range %q, want %q", got, want)
			case a.wrong:
				x.fault = "wrong bytes"
			}
			return x
		})
	if err != nil {
		return nil, err
	}
	r := newRow("open-ended range, client leaves after 1 MiB", "≤ 2 MiB")
	most := func(xs []sample) int64 { return worst(xs, bytesOf) }
	for k, xs := range all {
		r.Cells[k] = mib(most(xs))
		for _, f := range faultsOf(xs) {
			r.Cells[k] += ", " + f
		}
	}
	r.Faults = append(r.Faults, faultsOf(all[sociable])...)
	r.must(most(all[sociable]) <= 2<<20, "%s", mib(most(all[sociable])))
	return []*row{r}, nil
}
