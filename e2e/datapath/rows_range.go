package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// fetchRange asks for r of image big's layer; "" if the answer was right.
func (b *bench) fetchRange(ctx context.Context, s *server, r span) (*answer, string) {
	a := s.get(ctx, b.layerPath(s), r, b.big)
	return a, a.rangeFault(r, b.layer().Size)
}

// coldRange is one range of a blob that nobody has asked for.
func (b *bench) coldRange(ctx context.Context) ([]*row, error) {
	n := times{direct: 9, sociable: 9, nginx: 5, distribution: 1}
	all, err := b.rounds(ctx, n, conditions{link: slow}, 8*time.Second, func(ctx context.Context, s *server, round int) sample {
		off := rand.New(rand.NewPCG(1, uint64(round))).Int64N(b.layer().Size - 4<<20)
		start := time.Now()
		_, fault := b.getTag(ctx, s, b.catalog.Big)
		if fault == "" {
			_, fault = b.fetchRange(ctx, s, span{off, off + 4<<20})
		}
		return sample{took: time.Since(start).Seconds(), fault: fault}
	})
	if err != nil {
		return nil, err
	}
	r := newRow("cold 4 MiB range incl. manifest, no index", "≤ 1.1 × direct, ≤ 4.5 MiB")
	r.fill(all, timeAndBytes)
	ratio, n2 := median(all[sociable], took)/median(all[direct], took), worst(all[sociable], bytesOf)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × direct)", ratio)
	r.time(ratio <= 1.1, "%.2f × direct", ratio)
	r.must(n2 <= 9<<19, "%s", mib(n2))
	return []*row{r}, nil
}

func timeAndBytes(xs []sample) string {
	return fmt.Sprintf("%s, %s", seconds(median(xs, took)), mib(median(xs, bytesOf)))
}

func timeBytesRequests(xs []sample) string {
	return fmt.Sprintf("%s, %s", timeAndBytes(xs), requests(median(xs, requestsOf)))
}

// randomRanges is what lazy clients of formats without a SOCI index do.
func (b *bench) randomRanges(ctx context.Context) ([]*row, error) {
	n := times{direct: 7, sociable: 7, nginx: 3, distribution: 1}
	all, err := b.rounds(ctx, n, conditions{link: slow}, 8*time.Second, func(ctx context.Context, s *server, round int) sample {
		rnd := rand.New(rand.NewPCG(2, uint64(round)))
		offs := make([]int64, 64)
		for i := range offs {
			offs[i] = rnd.Int64N(b.layer().Size - 64<<10)
		}
		if _, fault := b.getTag(ctx, s, b.catalog.Big); fault != "" {
			return sample{fault: fault}
		}
		s.link.Forget()
		start := time.Now()
		fault := inParallel(len(offs), 4, func(i int) string {
			_, fault := b.fetchRange(ctx, s, span{offs[i], offs[i] + 64<<10})
			return fault
		})
		return sample{took: time.Since(start).Seconds(), fault: fault}
	})
	if err != nil {
		return nil, err
	}
	r := newRow("64 random 64 KiB cold ranges, 4 at once", "≤ 1.5 × direct, ≤ 24 MiB")
	r.fill(all, timeBytesRequests)
	ratio, n2 := median(all[sociable], took)/median(all[direct], took), worst(all[sociable], bytesOf)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × direct)", ratio)
	r.time(ratio <= 1.5, "%.2f × direct", ratio)
	r.must(n2 <= 24<<20, "%s", mib(n2))
	return []*row{r}, nil
}

// distinctRanges is 64 clients that each want a place of their own.
func (b *bench) distinctRanges(ctx context.Context) ([]*row, error) {
	n := times{direct: 3, sociable: 3, nginx: 2, distribution: 1}
	all, err := b.rounds(ctx, n, conditions{link: slow}, time.Second, func(ctx context.Context, s *server, round int) sample {
		order := rand.New(rand.NewPCG(3, uint64(round))).Perm(64)
		if _, fault := b.getTag(ctx, s, b.catalog.Big); fault != "" {
			return sample{fault: fault}
		}
		s.link.Forget()
		start := time.Now()
		fault := inParallel(64, 64, func(i int) string {
			off := int64(order[i]) * 4 << 20
			_, fault := b.fetchRange(ctx, s, span{off, off + 4<<20})
			return fault
		})
		return sample{took: time.Since(start).Seconds(), fault: fault}
	})
	if err != nil {
		return nil, err
	}
	r := newRow("64 distinct cold 4 MiB ranges at once", "≤ 1.03 × direct, no byte twice")
	r.fill(all, func(xs []sample) string {
		return fmt.Sprintf("%s, %s twice", timeBytesRequests(xs), mib(worst(xs, func(x sample) int64 { return x.twice })))
	})
	ratio, twice := median(all[sociable], took)/median(all[direct], took), worst(all[sociable], func(x sample) int64 { return x.twice })
	r.Cells[sociable] += fmt.Sprintf(" (%.3f × direct)", ratio)
	r.time(ratio <= 1.03, "%.3f × direct", ratio)
	r.must(twice == 0, "%d bytes twice", twice)
	return []*row{r}, nil
}

// crowdRange is 64 clients that want the same place.
func (b *bench) crowdRange(ctx context.Context) ([]*row, error) {
	ranged := func(clients int) func(context.Context, *server, int) sample {
		return func(ctx context.Context, s *server, round int) sample {
			off := rand.New(rand.NewPCG(4, uint64(round))).Int64N(b.layer().Size - 4<<20)
			if _, fault := b.getTag(ctx, s, b.catalog.Big); fault != "" {
				return sample{fault: fault}
			}
			s.link.Forget()
			start := time.Now()
			fault := inParallel(clients, clients, func(int) string {
				_, fault := b.fetchRange(ctx, s, span{off, off + 4<<20})
				return fault
			})
			return sample{took: time.Since(start).Seconds(), fault: fault}
		}
	}
	alone, err := b.rounds(ctx, times{direct: 5, sociable: 5, nginx: 3}, conditions{link: slow}, time.Second, ranged(1))
	if err != nil {
		return nil, err
	}
	all, err := b.rounds(ctx, times{sociable: 5, nginx: 3, distribution: 1}, conditions{link: slow}, 8*time.Second, ranged(64))
	if err != nil {
		return nil, err
	}
	r := newRow("64 callers of one cold 4 MiB range", "≤ 2 × one alone, 1 request")
	r.fill(all, timeBytesRequests)
	r.Cells[direct] = "one alone " + seconds(median(alone[direct], took))
	ratio, n := median(all[sociable], took)/median(alone[sociable], took), worst(all[sociable], requestsOf)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × one alone, %s)", ratio, seconds(median(alone[sociable], took)))
	r.time(ratio <= 2, "%.2f × one alone", ratio)
	r.must(n == 1, "%s", requests(n))
	return []*row{r}, nil
}

// crowdPull is one blob that 16 nodes pull in the same moment.
func (b *bench) crowdPull(ctx context.Context) ([]*row, error) {
	alone, err := b.rounds(ctx, times{direct: 1, sociable: 2}, conditions{link: slow}, time.Second,
		func(ctx context.Context, s *server, _ int) sample { return b.pull(ctx, s) })
	if err != nil {
		return nil, err
	}
	all, err := b.rounds(ctx, times{sociable: 2, nginx: 1, distribution: 1}, conditions{link: slow}, time.Second,
		func(ctx context.Context, s *server, _ int) sample {
			start := time.Now()
			fault := inParallel(16, 16, func(int) string { return b.pull(ctx, s).fault })
			return sample{took: time.Since(start).Seconds(), fault: fault}
		})
	if err != nil {
		return nil, err
	}
	r := newRow("16 cold pulls of one blob at once", "≤ 1.1 × one alone, upstream × 1.00")
	share := func(x sample) float64 { return float64(x.bytes) / float64(b.layer().Size) }
	r.fill(all, func(xs []sample) string {
		return fmt.Sprintf("%s, × %.2f", seconds(median(xs, took)), worst(xs, share))
	})
	r.Cells[direct] = "one alone " + seconds(median(alone[direct], took))
	one := median(alone[sociable], took)
	ratio := median(all[sociable], took) / one
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × one alone, %s)", ratio, seconds(one))
	r.time(ratio <= 1.1, "%.2f × one alone", ratio)
	r.must(worst(all[sociable], share) < 1.005, "upstream × %.3f", worst(all[sociable], share))
	r.must(worst(all[sociable], blobsOf) == 1, "%s for the blob", requests(worst(all[sociable], blobsOf)))
	return []*row{r}, nil
}
