package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

const (
	// maxSpan is the largest span that is fetched and verified as one; larger
	// ones, of layers that are one deflate block, are read by the grid.
	maxSpan = 16 << 20
	// maxSpanRun bounds one upstream request for neighbouring spans.
	maxSpanRun = 32 << 20
	// aheadShare is the part of the store, one in so many, that one client's
	// spans may take before they are sent.
	aheadShare = 16
	// maxSpanRuns bounds one layer's transfers of spans: what is wanted meanwhile
	// merges with its neighbours, so that a crowd costs a handful of requests.
	maxSpanRuns = 6
)

// spanSource answers ranges of an indexed layer that is not whole here.
type spanSource struct {
	p      *Proxy
	up     *Upstream
	repo   oci.Repo
	layer  storage.LayerRow
	table  *ztoc.SpanTable
	ahead  int64         // how far spans are fetched in front of the client
	most   int64         // how far at most
	next   int           // the first span that was not asked for yet
	at     int           // the first span of the range that is read
	later  []oci.Range   // parts that are read after the first
	unsent []oci.Range   // parts that are read after the one that is
	aside  []*pieceOf    // what of unsent came with spans that were passed on
	joined []*spanFlight // in which it is counted
	rest   *spanRest     // what is passed on without being kept; nil: nothing yet
}

// newSpanSource makes a source for ranges of a layer. The client of an
// open-ended one may hang up at any time: it is fetched little by little.
func newSpanSource(p *Proxy, up *Upstream, repo oci.Repo, layer storage.LayerRow, table *ztoc.SpanTable, open bool) *spanSource {
	s := &spanSource{p: p, up: up, repo: repo, layer: layer, table: table, most: p.spanAhead}
	s.ahead = s.most
	if open {
		s.ahead = min(s.ahead, firstAhead)
	}
	return s
}

// spanAhead is how far spans are fetched in front of a client: in a store of limit
// bytes (0: any number) that is small, what is further ahead would push out what
// was not sent yet.
func spanAhead(limit int64) int64 {
	if limit > 0 {
		return min(maxSpanRun, limit/aheadShare)
	}
	return maxSpanRun
}

// spanFlight is one fetch of one span, for everybody who wants it.
type spanFlight struct {
	repo oci.Repo // by whose right it is fetched
	of   layerKey // among whose transfers it is
	done chan struct{}
	by   *spanSource // who asked the upstream for it; set, as err is, before done is closed
	err  error

	// Proxy.mu guards these.
	in      *spanTransfer // nil: it waits for one
	landed  bool
	waiting int // sources that are counted, see joinLocked
}

func (s *spanSource) size() int64 { return s.layer.Size }

// spans gives the first and the last span (inclusive) of r, without the bytes
// that stand in the layer's row; ok is false where the row has all of r.
func (s *spanSource) spans(r oci.Range) (first, last int, ok bool) {
	r.Off = max(r.Off, min(int64(len(s.layer.Head)), r.End))
	if r.Len() <= 0 {
		return 0, 0, false
	}
	first, last = s.table.Cover(r.Off, r.End)
	return first, last, first <= last
}

// prepare starts fetching what is missing of r and waits for its first span,
// so that a failure is still an answer. It tells how the bytes were had.
func (s *spanSource) prepare(ctx context.Context, r oci.Range) (outcome, error) {
	first, last, ok := s.spans(r)
	if !ok {
		s.startLater(ctx)
		return outcomeHit, nil
	}
	s.at, s.next = first, first
	out := s.keepAhead(ctx, first, last)
	s.startLater(ctx)
	err := s.wait(ctx, first)
	if cause, ok := errors.AsType[keepError](err); ok {
		return outcomeMiss, s.openRest(ctx, first, last, cause)
	}
	return out, err
}

// keepAhead starts what is missing of the spans from i on, as far as they are
// to be fetched in front of the client, and at most to last.
func (s *spanSource) keepAhead(ctx context.Context, i, last int) outcome {
	from := s.table.Span(i).Off
	switch {
	case s.next > last:
		return outcomeHit
	case s.next > i && s.table.Span(s.next).Off-from > s.ahead/2:
		return outcomeHit
	case s.next > i: // the client stays
		s.ahead = min(2*s.ahead, s.most)
	}
	end := max(s.next, i)
	for end < last && s.table.Span(end+1).Off-from < s.ahead {
		end++
	}
	out := s.start(ctx, max(s.next, i), end)
	s.next = end + 1
	return out
}

// start has what is missing of the spans from first to last fetched, as far as
// nobody brings it already.
func (s *spanSource) start(ctx context.Context, first, last int) outcome {
	out := outcomeHit
	var claimed []wantedSpan
	for i := first; i <= last; i++ {
		had, x := s.claim(ctx, i)
		if out = max(out, had); x != nil {
			claimed = append(claimed, *x)
		}
	}
	s.want(claimed)
	s.schedule()
	return out
}

// claim gives span i, to be wanted, unless it is here or somebody brings it.
func (s *spanSource) claim(ctx context.Context, i int) (outcome, *wantedSpan) {
	sp := s.table.Span(i)
	if _, err := s.p.store.Stat(ctx, sp.Digest); err == nil {
		return outcomeHit, nil
	}
	fl, ours := s.flight(sp.Digest)
	if !ours {
		return outcomeFollow, nil
	}
	if s.arrived(ctx, sp.Digest, fl) {
		return outcomeHit, nil
	}
	return outcomeSpan, &wantedSpan{sp, fl}
}

// arrived looks once more, with the flight in hand: the span may have come
// between the look and the flight.
func (s *spanSource) arrived(ctx context.Context, d digest.Digest, fl *spanFlight) bool {
	_, err := s.p.store.Stat(ctx, d)
	if err != nil {
		return false
	}
	s.p.landSpan(d, fl, nil)
	return true
}

// flight joins or makes the flight of one span.
func (s *spanSource) flight(d digest.Digest) (fl *spanFlight, ours bool) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if fl = s.p.spans[d]; fl == nil {
		fl, ours = &spanFlight{repo: s.repo, of: s.key(), done: make(chan struct{})}, true
		s.p.spans[d] = fl
	}
	s.joinLocked(fl)
	return fl, ours
}

func (p *Proxy) landSpan(d digest.Digest, fl *spanFlight, err error) {
	fl.err = err
	p.mu.Lock()
	fl.landed = true
	delete(p.spans, d)
	p.mu.Unlock()
	close(fl.done)
}

// create makes room for one span.
func (s *spanSource) create(ctx context.Context, sp ztoc.Span) (*storage.Writer, error) {
	w, err := s.p.store.Create(ctx)
	if err != nil {
		return nil, keepError{fmt.Errorf("store span %s: %w", sp.Digest, err)}
	}
	if err := w.Reserve(ctx, sp.End-sp.Off); err != nil {
		_ = w.Close() // what it can't remove is swept
		return nil, keepError{fmt.Errorf("store span %s: %w", sp.Digest, err)}
	}
	return w, nil
}

// keep stores one span as the blob it is, and closes w.
func (s *spanSource) keep(ctx context.Context, w *storage.Writer, in *shared, sp ztoc.Span) error {
	defer func() { _ = w.Close() }() // what it can't remove is swept
	if err := in.copyTo(w, sp, s.p.bufs); err != nil {
		return err
	}
	row := storage.BlobRow{Digest: sp.Digest, Size: sp.End - sp.Off, Kind: storage.KindSpan, Of: s.layer.Digest}
	if err := w.Commit(ctx, row, storage.Cached); err != nil {
		err = fmt.Errorf("store span %s: %w", sp.Digest, err)
		if errors.Is(err, storage.ErrDigest) {
			return err
		}
		return keepError{err}
	}
	return nil
}

// wait waits for span i, if it is on its way. What went wrong with another
// repository's transfer, or its upstream, says nothing about ours.
func (s *spanSource) wait(ctx context.Context, i int) error {
	d := s.table.Span(i).Digest
	for {
		s.p.mu.Lock()
		fl := s.p.spans[d]
		s.p.mu.Unlock()
		if fl == nil {
			return nil
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		theirs := fl.repo != s.repo || refusesCaller(fl.err) && fl.by != s || errors.Is(fl.err, errStopped)
		if fl.err == nil || !theirs {
			return fl.err
		}
		s.start(ctx, i, i) // what another repository, or another caller, was refused, or gave up
	}
}

// open gives span i, fetching it again when it was evicted since. A store that
// is too small to have it stay until it is sent does not keep it: keepError.
func (s *spanSource) open(ctx context.Context, i int) (storage.Blob, error) {
	for try := 0; ; try++ {
		if err := s.wait(ctx, i); err != nil {
			return nil, err
		}
		b, err := s.p.store.Open(ctx, s.table.Span(i).Digest)
		if err == nil || !errors.Is(err, storage.ErrNotFound) {
			return b, err
		}
		if try == 2 {
			return nil, keepError{err}
		}
		s.start(ctx, i, i)
	}
}

// copyRange writes r, trimmed out of its spans.
func (s *spanSource) copyRange(ctx context.Context, w io.Writer, r oci.Range) error {
	s.unsent = s.unsent[min(1, len(s.unsent)):]
	if n := min(int64(len(s.layer.Head)), r.End); r.Off < n {
		if _, err := w.Write(s.layer.Head[r.Off:n]); err != nil {
			return clientError{err}
		}
		r.Off = n
	}
	first, last, ok := s.spans(r)
	if s.rest != nil && ok {
		return s.copyRest(w, last, r)
	}
	if ok {
		s.begin(first)
	}
	for i := first; ok && i <= last && r.Len() > 0; i++ {
		sp := s.table.Span(i)
		end := min(r.End, sp.End)
		if p := s.fromAside(oci.Range{Off: r.Off, End: end}); p != nil {
			if _, err := w.Write(p); err != nil {
				return clientError{err}
			}
			r.Off = end
			continue
		}
		s.keepAhead(ctx, i, last)
		b, err := s.open(ctx, i)
		if cause, ok := errors.AsType[keepError](err); ok {
			if err := s.openRest(ctx, i, last, cause); err != nil {
				return err
			}
			return s.copyRest(w, last, r)
		}
		if err != nil {
			return err
		}
		err = s.p.send(w, b, oci.Range{Off: r.Off - sp.Off, End: end - sp.Off})
		_ = b.Close() // only read from
		if err != nil {
			return err
		}
		r.Off = end
	}
	return nil
}
