package proxy

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// spanRuns are the transfers of one layer's spans, whoever asked for them, and
// what waits for one. It exists while there is either; Proxy.mu guards it.
type spanRuns struct {
	at     int          // transfers at work
	wanted []wantedSpan // by offset
}

// wantedSpan is a span that was claimed by its flight and is not fetched yet.
type wantedSpan struct {
	ztoc.Span
	flight *spanFlight
}

// layerKey is a layer as one repository has it, whose right its transfers use.
type layerKey struct {
	repo oci.Repo
	d    digest.Digest
}

func (s *spanSource) key() layerKey { return layerKey{s.repo, s.layer.Digest} }

// want puts xs among what waits; schedule has it fetched. They come at once, since
// whoever ends a transfer takes what waits by then.
func (s *spanSource) want(xs []wantedSpan) {
	if len(xs) == 0 {
		return
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	q := s.p.spanRuns[s.key()]
	if q == nil {
		q = &spanRuns{}
		s.p.spanRuns[s.key()] = q
	}
	q.wanted = append(q.wanted, xs...)
	slices.SortStableFunc(q.wanted, func(a, b wantedSpan) int { return cmp.Compare(a.Off, b.Off) })
}

// schedule starts transfers of what is wanted of the layer, within maxSpanRuns.
// What became wanted while they were at work has merged into few runs.
func (s *spanSource) schedule() {
	for {
		ctx, t := s.nextRun()
		if t == nil {
			return
		}
		started := s.p.work.start(func() {
			defer t.cancel(nil)
			s.fetch(ctx, t.spans)
			s.endRun()
			s.schedule()
		})
		if !started {
			t.cancel(errShutdown)
			for _, x := range t.spans {
				s.p.landSpan(x.Digest, x.flight, errShutdown)
			}
			s.endRun()
		}
	}
}

// nextRun takes the first run of neighbours, with the life of their transfer; none
// when enough are at work.
func (s *spanSource) nextRun() (context.Context, *spanTransfer) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	q := s.p.spanRuns[s.key()]
	if q == nil || q.at == maxSpanRuns || len(q.wanted) == 0 {
		return nil, nil
	}
	n := 1
	for n < len(q.wanted) && q.wanted[n].Off <= q.wanted[n-1].End && q.wanted[n].End-q.wanted[0].Off <= maxSpanRun {
		n++
	}
	ctx, cancel := context.WithCancelCause(s.p.life)
	t := &spanTransfer{spans: slices.Clone(q.wanted[:n]), cancel: cancel}
	for _, x := range t.spans {
		x.flight.in = t
	}
	q.wanted = slices.Delete(q.wanted, 0, n)
	q.at++
	return ctx, t
}

// endRun makes room for another run.
func (s *spanSource) endRun() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	q := s.p.spanRuns[s.key()]
	q.at--
	if q.at == 0 && len(q.wanted) == 0 {
		delete(s.p.spanRuns, s.key())
	}
}
