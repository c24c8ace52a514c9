package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// passSource is a blob that cannot be kept, because the store has no room or
// does not take it: its bytes go from upstream to one client, which verifies them
// for itself, also where a passing brings them to several.
type passSource struct {
	p    *Proxy
	from *fill // has what comes before what is passed on; nil: nothing does
	up   *Upstream
	repo oci.Repo
	d    digest.Digest
	n    int64
	body io.ReadCloser           // what was asked for last; nil: nothing, or it was sent
	of   oci.Range               // body's, as it was asked for; End is -1 for the blob's
	end  context.CancelCauseFunc // of body's life, where that is not its client's; or nil
	out  outcome                 // how it was had
}

// passSource passes on what is not kept, for cause. What was, the way to keep it, came
// to know of it is not asked for again: upstream's answer to what specs ask for tells
// the size otherwise, and proves the right.
func (p *Proxy) passSource(ctx context.Context, who asker, d digest.Digest, specs []oci.RangeSpec, was *fillSource, cause error) (source, error) {
	s := &passSource{p: p, up: who.up, repo: who.repo, d: d, n: -1}
	if was != nil && was.may {
		s.takeOver(was)
	}
	if s.n < 0 && s.body == nil {
		if err := s.ask(ctx, specs); err != nil {
			return nil, err
		}
		p.grant(who.up, who.repo, d)
	}
	s.noted(ctx, cause)
	return s, nil
}

// takeOver has what was, whose client has the right, knows of the blob.
func (s *passSource) takeOver(was *fillSource) {
	s.n = max(was.n, was.f.knownSize())
	s.body, s.end = was.f.inherit(was.spare)
	s.of, s.out = oci.Range{Off: 0, End: -1}, outcomeMiss
	if s.body != nil && !was.spare.first {
		s.out = outcomeFollow
	}
}

// noted has it counted and told that the blob is passed on. That another caller was
// refused is no trouble of the store's.
func (s *passSource) noted(ctx context.Context, cause error) {
	if !refusesCaller(cause) {
		s.p.passed(ctx, s.repo, s.d, cause)
	}
}

// ask opens the first range that is asked for. Only where that counts from the end the
// size has to be known before.
func (s *passSource) ask(ctx context.Context, specs []oci.RangeSpec) (err error) {
	r := oci.Range{Off: 0, End: -1}
	if specs != nil {
		r.Off = specs[0].First
	}
	if r.Off >= 0 && r.Off < farAway {
		if specs != nil && specs[0].Last >= 0 {
			r.End = min(specs[0].Last, farAway) + 1
		}
		err = s.open(ctx, r)
		none, ok := errors.AsType[*upstream.RangeError](err)
		if !ok {
			return err
		}
		if s.n = none.Size; s.n >= 0 { // upstream has the blob, and nothing of that
			return nil
		}
	}
	s.n, err = s.p.headOf(ctx, s.up, s.repo, s.d, false)
	return err
}

// open asks upstream for r.
func (s *passSource) open(ctx context.Context, r oci.Range) error {
	body, err := s.up.Registry.Blob(ctx, s.repo.Name, s.d, r)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", s.d, err)
	}
	s.body, s.of, s.out = body, r, outcomeMiss
	switch n := body.Size(); {
	case s.n < 0:
		s.n = n
	case n >= 0 && n != s.n:
		s.close()
		s.p.reject(s.up, s.d)
		return fmt.Errorf("%w: upstream %s changed the size of %s from %d to %d", upstream.ErrDigest, s.up.Name, s.d, s.n, n)
	}
	return nil
}

// passRest goes on with an answer that has begun, when the store takes no more of
// its blob: what t has not sent yet comes from upstream. What it has sent is in
// the partial, so that the whole is verified all the same.
func (t *reader) passRest(ctx context.Context, w io.Writer, cause error) error {
	if !t.whole {
		t.f.p.passed(ctx, t.who.repo, t.f.d, cause)
		s := t.passing()
		s.alsoWentBy(t.f)
		return s.copyRange(ctx, w, oci.Range{Off: t.pos, End: t.end})
	}
	rest, err := t.holdRest(ctx, cause)
	if err != nil {
		return err
	}
	defer rest.close()
	return rest.copy(w)
}

func (t *reader) passing() *passSource {
	return &passSource{p: t.f.p, up: t.who.up, repo: t.who.repo, d: t.f.d, n: t.f.knownSize()}
}

// heldRest is the rest of a blob, passed on without being kept, whose front is in the
// partial: its last bytes wait for the digest of both.
type heldRest struct {
	*passSource
	verify digest.Verifier // has had the front
}

// holdRest opens what comes behind t's place.
func (t *reader) holdRest(ctx context.Context, cause error) (*heldRest, error) {
	f := t.f
	f.p.passed(ctx, t.who.repo, f.d, cause)
	verify := f.d.Verifier()
	buf := f.p.bufs.get()
	_, err := f.hashPart(ctx, verify, oci.Range{Off: 0, End: t.pos}, buf)
	f.p.bufs.put(buf)
	if err != nil {
		return nil, err
	}
	rest := &heldRest{t.passing(), verify}
	rest.from = f
	_, err = rest.prepare(ctx, oci.Range{Off: t.pos, End: -1})
	return rest, err
}

func (r *heldRest) copy(w io.Writer) error { return r.copyVerified(w, r.verify) }

func (s *passSource) size() int64 { return s.n }

func (s *passSource) prepare(ctx context.Context, r oci.Range) (outcome, error) {
	if r.Off == 0 && r.End == s.n {
		r.End = -1
	}
	if s.body != nil && s.of.Off == r.Off && (s.of.End < 0 || s.of.End >= s.n && s.n >= 0 || s.of.End >= r.End && r.End >= 0) {
		return s.out, nil
	}
	s.close()
	return outcomeMiss, s.open(ctx, r)
}

// copyRange sends r. The last bytes of a whole blob wait for its digest.
func (s *passSource) copyRange(ctx context.Context, w io.Writer, r oci.Range) error {
	if s.body == nil { // a further part of several
		if _, err := s.prepare(ctx, r); err != nil {
			return err
		}
	}
	defer s.close()
	body := s.body
	defer context.AfterFunc(ctx, func() { _ = body.Close() })() // what was taken over has another life
	if r.Off > 0 || r.End < s.n {
		if err := s.copyPart(w, r.Len()); err != nil {
			return err
		}
		s.wentBy(r)
		return nil
	}
	return s.copyVerified(w, s.d.Verifier())
}

// copyVerified sends the body to its end. verify has had what came before it.
func (s *passSource) copyVerified(w io.Writer, verify digest.Verifier) error {
	buf := s.p.bufs.get()
	defer s.p.bufs.put(buf)
	held := 0 // bytes at the front of buf that were not sent
	for {
		n, err := s.read(buf[held:])
		_, _ = verify.Write(buf[held : held+n]) // a hash never fails
		held += n
		if err == io.EOF { //nolint:errorlint // io.Reader's own
			break
		}
		if err != nil {
			return fmt.Errorf("fetch %s: %w", s.d, err)
		}
		if send := held - holdBack; send > 0 {
			if _, err := w.Write(buf[:send]); err != nil {
				return clientError{err}
			}
			held = copy(buf, buf[send:held])
		}
	}
	if !verify.Verified() {
		err := fmt.Errorf("%w: %s from %s", upstream.ErrDigest, s.d, s.up.Name)
		if s.from != nil {
			return s.from.wrongRest(err)
		}
		s.p.reject(s.up, s.d)
		return err
	}
	s.allWentBy()
	if _, err := w.Write(buf[:held]); err != nil {
		return clientError{err}
	}
	return nil
}

// copyPart sends n bytes of the body.
func (s *passSource) copyPart(w io.Writer, n int64) error {
	buf := s.p.bufs.get()
	defer s.p.bufs.put(buf)
	for n > 0 {
		got, err := s.read(buf[:min(int64(len(buf)), n)])
		n -= int64(got)
		if got > 0 {
			if _, err := w.Write(buf[:got]); err != nil {
				return clientError{err}
			}
		}
		if err != nil && n > 0 {
			return fmt.Errorf("fetch %s: %w", s.d, err)
		}
	}
	return nil
}

// read reads the body, and counts what came for this client alone.
func (s *passSource) read(buf []byte) (int, error) {
	n, err := s.body.Read(buf)
	if _, alone := s.body.(*upstream.Body); alone {
		s.p.metrics.upstreamBytes.Add(float64(n))
	}
	return n, err
}

func (s *passSource) close() {
	if s.body != nil {
		_ = s.body.Close() // read to its end, or given up
		s.body = nil
	}
	if s.end != nil {
		s.end(nil)
		s.end = nil
	}
}
