package proxy

import (
	"context"

	"github.com/sociable/sociable/internal/oci"
)

// partsSource is a source that fetches several ranges together, as far as its
// reader may be run ahead of.
type partsSource interface {
	// plan tells, before prepare, which ranges will be read, in this order.
	plan(ranges []oci.Range)
}

// plan asks for what the parts lack at once, so that neighbours are one request:
// for the first by itself, which need not wait for places behind others.
func (s *fillSource) plan(ranges []oci.Range) {
	ranges = leading(ranges, maxAhead)
	t := s.readerFor(ranges[0])
	t.fetches = s.f.wantParts(ranges[:1]) || t.fetches
	s.f.wantParts(ranges[1:])
}

// leading gives the first of ranges that have most bytes together, and always one.
func leading(ranges []oci.Range, most int64) []oci.Range {
	n := 0
	for ; n < len(ranges) && (n == 0 || ranges[n].Len() <= most); n++ {
		most -= ranges[n].Len()
	}
	return ranges[:n]
}

// wantParts is want of them. It leaves them to a pump where one is at work.
func (f *fill) wantParts(ranges []oci.Range) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pump != nil {
		return false
	}
	for _, r := range ranges {
		r.End = min(r.End, r.Off+maxAhead)
		news = f.addLocked(r) || news
	}
	f.scheduleLocked()
	return news
}

func (s *spanSource) plan(ranges []oci.Range) {
	s.later = leading(ranges, s.most)[1:]
	s.unsent = ranges
}

// startLater has the spans of later parts fetched beside those of the first.
func (s *spanSource) startLater(ctx context.Context) {
	if len(s.later) == 0 {
		return
	}
	seen := -1
	var claimed []wantedSpan
	for _, r := range s.later {
		first, last, ok := s.spans(r)
		for i := first; ok && i <= last; i++ {
			if i != seen {
				if _, x := s.claim(ctx, i); x != nil {
					claimed = append(claimed, *x)
				}
			}
			seen = i
		}
	}
	s.later = nil
	s.want(claimed)
	s.schedule()
}

// begin has copyRange look anew at what is missing of a part that is not the one
// that was prepared: it may be anywhere.
func (s *spanSource) begin(first int) {
	if s.at != first {
		s.at, s.next = first, first
	}
}
