package proxy

import (
	"context"
	"fmt"
	"io"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/ztoc"
)

// shared reads spans out of a body in which neighbours may share one byte.
type shared struct {
	r    io.Reader
	pos  int64
	last byte // the byte before pos
	got  int64
}

// copyTo writes sp. What w does not take is a keepError.
func (in *shared) copyTo(w io.Writer, sp ztoc.Span, bufs *buffers) error {
	off := sp.Off
	if off == in.pos-1 {
		if _, err := w.Write([]byte{in.last}); err != nil {
			return keepError{fmt.Errorf("store span at %d: %w", sp.Off, err)}
		}
		off++
	}
	if off != in.pos {
		return fmt.Errorf("span at %d does not follow byte %d", sp.Off, in.pos)
	}
	buf := bufs.get()
	defer bufs.put(buf)
	for in.pos < sp.End {
		n, err := io.ReadFull(in.r, buf[:min(int64(len(buf)), sp.End-in.pos)])
		if n > 0 {
			in.last = buf[n-1]
			in.pos += int64(n)
			in.got += int64(n)
			if _, werr := w.Write(buf[:n]); werr != nil {
				return keepError{fmt.Errorf("store span at %d: %w", sp.Off, werr)}
			}
		}
		if err != nil {
			return fmt.Errorf("fetch span at %d: %w", sp.Off, err)
		}
	}
	return nil
}

// spanRest is where the rest of an answer comes from when the store takes no more
// spans: from upstream to the one client, each span's end once it is verified.
type spanRest struct {
	body  *upstream.Body
	first int // its first span
}

// openRest asks upstream for the spans from first to last.
func (s *spanSource) openRest(ctx context.Context, first, last int, cause error) error {
	s.p.passed(ctx, s.repo, s.layer.Digest, cause)
	all := oci.Range{Off: s.table.Span(first).Off, End: s.table.Span(last).End}
	body, err := s.up.Registry.Blob(ctx, s.repo.Name, s.layer.Digest, all)
	if err != nil {
		return fmt.Errorf("fetch spans of %s: %w", s.layer.Digest, err)
	}
	s.rest = &spanRest{body, first}
	return nil
}

func (s *spanSource) close() {
	s.leave()
	s.closeRest()
}

func (s *spanSource) closeRest() {
	if s.rest != nil {
		_ = s.rest.body.Close() // read to its end, or given up
		s.rest = nil
	}
}

// copyRest sends r, whose last span is last, out of what openRest asked for.
func (s *spanSource) copyRest(w io.Writer, last int, r oci.Range) error {
	defer s.closeRest()
	in := &shared{r: s.rest.body, pos: s.table.Span(s.rest.first).Off}
	defer func() { s.p.metrics.upstreamBytes.Add(float64(in.got)) }()
	for i := s.rest.first; i <= last; i++ {
		if err := s.passSpan(w, in, s.table.Span(i), &r); err != nil {
			return err
		}
	}
	return nil
}

// passSpan sends what of sp is in r, and takes it off r.
func (s *spanSource) passSpan(w io.Writer, in *shared, sp ztoc.Span, r *oci.Range) error {
	held := s.p.bufs.get()
	defer s.p.bufs.put(held)
	verify := sp.Digest.Verifier()
	out := &holder{w: w, held: held[:0], skip: r.Off - sp.Off, left: min(r.End, sp.End) - r.Off}
	later := &pieces{at: sp.Off, list: s.wantAside(sp)}
	if err := in.copyTo(io.MultiWriter(verify, out, later), sp, s.p.bufs); err != nil {
		if out.err != nil {
			return clientError{out.err}
		}
		return err
	}
	if !verify.Verified() {
		s.p.reject(s.up, s.layer.Digest)
		return fmt.Errorf("%w: span %s of %s from %s", upstream.ErrDigest, sp.Digest, s.layer.Digest, s.up.Name)
	}
	s.aside = append(s.aside, later.list...)
	if err := out.flush(); err != nil {
		return clientError{err}
	}
	r.Off = min(r.End, sp.End)
	return nil
}

// holder passes on a part of what is written to it, and keeps the end of that
// back until flush.
type holder struct {
	w    io.Writer
	skip int64  // so many bytes are not for w
	left int64  // so many are, after these
	held []byte // cap: what is kept back and what comes in one Write, at most
	err  error  // of w
}

func (h *holder) Write(p []byte) (int, error) {
	n := len(p)
	cut := min(h.skip, int64(n))
	h.skip -= cut
	p = p[cut:]
	p = p[:min(h.left, int64(len(p)))]
	h.left -= int64(len(p))
	for len(p) > 0 {
		if len(h.held) == cap(h.held) {
			if h.err = h.send(len(h.held) - holdBack); h.err != nil {
				return 0, h.err
			}
		}
		m := min(len(p), cap(h.held)-len(h.held))
		h.held = append(h.held, p[:m]...)
		p = p[m:]
	}
	return n, nil
}

// send writes the first n bytes of what is held.
func (h *holder) send(n int) error {
	if _, err := h.w.Write(h.held[:n]); err != nil {
		return err
	}
	h.held = h.held[:copy(h.held, h.held[n:])]
	return nil
}

func (h *holder) flush() error {
	h.err = h.send(len(h.held))
	return h.err
}
