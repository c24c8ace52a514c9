package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// landing is a run of spans as it comes.
type landing struct {
	s     *spanSource
	run   []wantedSpan
	done  int          // so many of them came
	wrong []wantedSpan // of those, which had other bytes
}

// rest is what of the run did not come.
func (l *landing) rest() []wantedSpan { return l.run[l.done:] }

// landed hears of the next span: err is nil or storage.ErrDigest.
func (l *landing) landed(err error) {
	x := l.run[l.done]
	l.done++
	if errors.Is(err, storage.ErrDigest) {
		l.wrong = append(l.wrong, x)
		return
	}
	l.s.p.landSpan(x.Digest, x.flight, nil)
}

// fetch brings neighbouring spans, as far as the layer's fill has none of them by one
// upstream request. A span that is wrong is asked for once more, alone, once that
// request is over: who waited for a connection while he holds one could wait for ever.
func (s *spanSource) fetch(ctx context.Context, run []wantedSpan) {
	for _, x := range run {
		x.flight.by = s
	}
	l := &landing{s: s, run: run}
	if _, filling := s.p.filling(s.up, s.layer.Digest); filling {
		_, _ = s.fetchRun(ctx, run, s.fillBody, l.landed) // upstream is asked for what it does not give
	}
	filled := len(l.wrong)
	if rest := l.rest(); len(rest) > 0 {
		bytes, err := s.fetchTwice(ctx, rest, l.landed)
		for _, x := range l.rest() {
			s.p.landSpan(x.Digest, x.flight, stopped(ctx, err))
		}
		s.broughtSpans(bytes)
	}
	for i, x := range l.wrong {
		if i >= filled { // what a fill has may have been spoilt here
			s.p.reject(s.up, s.layer.Digest)
		}
		s.p.log.Warn("a span that came is wrong; asking upstream again", "digest", s.layer.Digest,
			"span", x.Digest, "off", x.Off, "upstream", s.up.Name)
		bytes, err := s.fetchRun(ctx, []wantedSpan{x}, s.upstreamBody, nil)
		s.p.landSpan(x.Digest, x.flight, stopped(ctx, err))
		s.broughtSpans(bytes)
	}
}

// opener gives a part of the layer.
type opener func(context.Context, oci.Range) (io.ReadCloser, error)

// fetchRun reads spans in order from one body, which open gives, and stores each of them.
// Neighbours may share a byte. landed hears of each span, with nil or storage.ErrDigest;
// nil: the latter ends the run. bytes is what came.
func (s *spanSource) fetchRun(ctx context.Context, run []wantedSpan, open opener, landed func(error)) (bytes int64, err error) {
	w, err := s.create(ctx, run[0].Span) // before anybody is asked for what could not be kept
	if err != nil {
		return 0, err
	}
	r := oci.Range{Off: run[0].Off, End: run[len(run)-1].End}
	body, err := open(ctx, r)
	if err != nil {
		_ = w.Close() // what it can't remove is swept
		return 0, fmt.Errorf("fetch spans of %s: %w", s.layer.Digest, err)
	}
	defer body.Close() // only read from
	in := &shared{r: body, pos: r.Off}
	defer func() { bytes = in.got }()
	for i := range run {
		if i > 0 {
			if w, err = s.create(ctx, run[i].Span); err != nil {
				return 0, err
			}
		}
		err := s.keep(ctx, w, in, run[i].Span)
		if err != nil && (landed == nil || !errors.Is(err, storage.ErrDigest)) {
			return 0, err
		}
		if landed != nil {
			landed(err)
		}
	}
	return 0, nil
}

// upstreamBody asks upstream for r.
func (s *spanSource) upstreamBody(ctx context.Context, r oci.Range) (io.ReadCloser, error) {
	body, err := s.up.Registry.Blob(ctx, s.repo.Name, s.layer.Digest, r)
	if err != nil {
		return nil, err
	}
	if n := body.Size(); n >= 0 && n != s.layer.Size {
		_ = body.Close() // only read from
		return nil, fmt.Errorf("%w: upstream %s changed the size of %s from %d to %d",
			upstream.ErrDigest, s.up.Name, s.layer.Digest, s.layer.Size, n)
	}
	return body, nil
}

// fillBody is r out of the layer's fill, which has these bytes, or fetches them for all
// who want them. They are unverified there, and it is by their spans that they are not.
func (s *spanSource) fillBody(ctx context.Context, r oci.Range) (io.ReadCloser, error) {
	src, err := s.p.joinFill(ctx, asker{s.up, s.repo}, s.layer.Digest, true, []oci.RangeSpec{{First: r.Off, Last: r.End - 1}})
	if err != nil {
		return nil, err
	}
	if src.unkept != nil {
		src.close()
		return nil, src.unkept
	}
	return s.p.stream(ctx, src, r)
}
