package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// others watches what other processes take of the machine, which is what makes
// figures noisy: measurements wait for a quiet moment, within a budget, and the
// table says what was taken meanwhile.
type others struct {
	budget time.Duration // left to wait with
	shares []float64     // while measuring
}

const (
	quiet     = 0.15 // share of the processors that may be taken
	window    = 200 * time.Millisecond
	waitLimit = 2 * time.Second // for one measurement
)

// usage is processor time since the machine started, in seconds.
type usage struct {
	at        time.Time
	all, ours float64
}

func measureUsage() (usage, error) {
	body, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}, err
	}
	var user, nice, system, idle, iowait, irq, softirq int64
	if _, err := fmt.Sscanf(string(body), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq); err != nil {
		return usage{}, fmt.Errorf("/proc/stat: %w", err)
	}
	ours, err := processorSeconds(os.Getpid())
	return usage{time.Now(), float64(user+nice+system+irq+softirq) / ticks, ours}, err
}

// since is the share of the machine that others had since u.
func (u usage) since() (float64, error) {
	now, err := measureUsage()
	if err != nil {
		return 0, err
	}
	taken := (now.all - u.all) - (now.ours - u.ours)
	return max(0, taken/now.at.Sub(u.at).Seconds()/float64(runtime.NumCPU())), nil
}

// wait returns in a quiet moment, or when enough was waited.
func (o *others) wait(ctx context.Context) error {
	for start := time.Now(); o.budget > 0 && time.Since(start) < waitLimit; {
		before, err := measureUsage()
		if err != nil {
			return err
		}
		pause(ctx, window)
		share, err := before.since()
		if err != nil || share <= quiet || ctx.Err() != nil {
			return err
		}
		o.budget -= window
	}
	return nil
}

// watch waits, and notes what others take while f runs: 0 where that is too
// short for the kernel's clock.
func (o *others) watch(ctx context.Context, f func() error) (share float64, err error) {
	if err := o.wait(ctx); err != nil {
		return 0, err
	}
	before, err := measureUsage()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	if time.Since(before.at) < window {
		return 0, nil
	}
	share, err = before.since()
	o.shares = append(o.shares, share)
	return share, err
}

// taken tells shares of the machine.
func taken(shares []float64) string {
	if len(shares) == 0 {
		return "an unknown share"
	}
	shares = slices.Sorted(slices.Values(shares))
	return fmt.Sprintf("%.0f %% (median of the measurements; at worst %.0f %%)",
		100*shares[len(shares)/2], 100*shares[len(shares)-1])
}
