package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sociable/sociable/e2e/link"
)

// count notes what passed the link.
func (x *sample) count(s *server) {
	x.requests, x.blobs, x.bytes = 0, 0, 0
	carried, asked := map[string][]span{}, map[string]int{}
	for _, r := range s.link.Requests() {
		x.requests++
		if strings.Contains(r.Path, "/blobs/") {
			asked[r.Path]++
			x.blobs = max(x.blobs, asked[r.Path]) // a conversion reads the image's config, which no client here asks for
		}
		x.bytes += r.Sent
		if r.Status < 300 && r.Sent > 0 {
			off := firstByte(r)
			carried[r.Path] = append(carried[r.Path], span{off, off + r.Sent})
		}
	}
	x.twice = 0
	for _, spans := range carried {
		x.twice += overlap(spans)
	}
}

// firstByte is where the body of a request's answer begins in the blob.
func firstByte(r link.Request) (off int64) {
	if r.Status == 206 {
		_, _ = fmt.Sscanf(r.Range, "bytes=%d-", &off) // 0 where it isn't one of ours
	}
	return off
}

// overlap is how many bytes more spans have than their union.
func overlap(spans []span) (n int64) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	var end int64
	for _, s := range spans {
		n += max(0, min(end, s.end)-s.off)
		end = max(end, s.end)
	}
	return n
}

// median is of what f gives of each; of an even number the upper one.
func median[T any, N cmp.Ordered](xs []T, f func(T) N) N {
	var all []N
	for _, x := range xs {
		all = append(all, f(x))
	}
	if len(all) == 0 {
		var zero N
		return zero
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func took(x sample) float64   { return x.took }
func first(x sample) float64  { return x.first }
func bytesOf(x sample) int64  { return x.bytes }
func requestsOf(x sample) int { return x.requests }
func blobsOf(x sample) int    { return x.blobs }

// worst is the largest of what f gives of each.
func worst[T any, N cmp.Ordered](xs []T, f func(T) N) (m N) {
	for i, x := range xs {
		if v := f(x); i == 0 || v > m {
			m = v
		}
	}
	return m
}

// faultsOf are the different faults of samples.
func faultsOf(xs []sample) []string {
	var all []string
	for _, x := range xs {
		if x.fault != "" && !slices.Contains(all, x.fault) {
			all = append(all, x.fault)
		}
	}
	return all
}

// tell is a cell: what format makes of samples, and what was wrong with them.
func tell(xs []sample, format func([]sample) string) string {
	if len(xs) == 0 {
		return "–"
	}
	if faults := faultsOf(xs); len(faults) > 0 {
		var good []sample
		for _, x := range xs {
			if x.fault == "" {
				good = append(good, x)
			}
		}
		if len(good) == 0 {
			return strings.Join(faults, "; ") + ", " + mib(median(xs, bytesOf))
		}
		return format(good) + "; but " + strings.Join(faults, "; ")
	}
	return format(xs)
}

func seconds(s float64) string {
	switch {
	case s < 0.0095:
		return fmt.Sprintf("%.2f ms", s*1e3)
	case s < 0.0995:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 0.95:
		return fmt.Sprintf("%.0f ms", s*1e3)
	}
	return fmt.Sprintf("%.2f s", s)
}

func mib(n int64) string {
	if n < 10<<10 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20))
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}
