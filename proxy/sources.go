package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// fileSource is a blob that is whole here.
type fileSource struct {
	p *Proxy
	d digest.Digest
	b storage.Blob
}

func (s *fileSource) size() int64 { return s.b.Size() }

func (s *fileSource) prepare(context.Context, oci.Range) (outcome, error) { return outcomeHit, nil }

func (s *fileSource) copyRange(_ context.Context, w io.Writer, r oci.Range) error {
	return s.p.send(w, s.b, r)
}

func (s *fileSource) close() { _ = s.b.Close() } // only read from

// bigSend is the size from which the kernel's copy beats one pread and write.
const bigSend = 64 << 10

// send writes r of an open blob: a large run by the kernel's own copy, which
// needs the *os.File under nothing but a LimitedReader, a small one through a
// pooled buffer. So is what goes to a w that reads from nothing by itself.
func (p *Proxy) send(w io.Writer, b storage.Blob, r oci.Range) error {
	_, kernel := w.(io.ReaderFrom)
	if f := b.File(); kernel && f != nil && r.Len() >= bigSend {
		if _, err := f.Seek(r.Off, io.SeekStart); err != nil {
			return fmt.Errorf("seek in blob: %w", err)
		}
		n, err := io.Copy(w, &io.LimitedReader{R: f, N: r.Len()})
		if err != nil {
			return clientError{err}
		}
		if n < r.Len() {
			return fmt.Errorf("blob ends %d bytes early: %w", r.Len()-n, io.ErrUnexpectedEOF)
		}
		return nil
	}
	buf := p.bufs.get()
	defer p.bufs.put(buf)
	for r.Len() > 0 {
		n, err := b.ReadAt(buf[:min(int64(len(buf)), r.Len())], r.Off)
		if n == 0 && err != nil {
			return fmt.Errorf("read blob: %w", err)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return clientError{err}
		}
		r.Off += int64(n)
	}
	return nil
}

// fillSource is a blob that is not whole here, read while it comes.
type fillSource struct {
	f    *fill
	who  asker
	made bool    // by this request
	open bool    // an open-ended range is among those that are asked for
	t    *reader // of the first range, or of the whole
	n    int64
	rest *heldRest // what is passed on of a pull that goes on; nil: nothing

	spare  *spare // what its pump opened in vain
	may    bool   // who asks was found to have the right
	unkept error  // the store does not take what comes: it is of no use but to passSource
}

// fillSource joins the blob's fill. A whole read starts its pump; a ranged one
// asks for its first bytes, and the answer tells the size.
func (p *Proxy) fillSource(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, st stored, specs []oci.RangeSpec) (*fillSource, error) {
	s, err := p.joinFill(ctx, asker{up, repo}, d, st.entitled, specs)
	if errors.Is(err, errUnproven) { // it came up since we looked, or is another's by now
		if err := p.prove(ctx, up, repo, d, st); err != nil {
			return nil, err
		}
		s, err = p.joinFill(ctx, asker{up, repo}, d, true, specs)
	}
	return s, err
}

// joinFill gives errUnproven where who was not found to have the right, and this
// fill does not prove it. Whoever has a source of it, but an unkept one, has the right.
func (p *Proxy) joinFill(ctx context.Context, who asker, d digest.Digest, entitled bool, specs []oci.RangeSpec) (*fillSource, error) {
	f, made, err := p.acquire(ctx, who.up, who.repo, d, entitled)
	if err != nil {
		return nil, err
	}
	s := &fillSource{f: f, who: who, made: made, n: -1, open: slices.ContainsFunc(specs, openEnded), spare: &spare{who: who}}
	switch {
	case specs == nil, specs[0].First == 0 && specs[0].Last < 0:
		s.t = f.newReader(who, s.spare, oci.Range{Off: 0, End: -1}, true, false)
	case specs[0].First < 0 || specs[0].First >= farAway:
		if err := f.headSize(ctx, who); err != nil {
			f.release()
			return nil, err
		}
		s.t = f.newReader(who, s.spare, oci.Range{Off: 0, End: 0}, false, false)
	default:
		end := int64(-1)
		if specs[0].Last >= 0 {
			end = min(specs[0].Last, farAway) + 1
		}
		s.t = f.newReader(who, s.spare, oci.Range{Off: specs[0].First, End: end}, false, end < 0)
	}
	s.n, err = f.sizeFor(ctx, s.t, entitled)
	s.may = entitled || err == nil || f.provedFor(who)
	switch _, unkept := errors.AsType[keepError](err); {
	case err == nil, entitled && s.goesOn(err):
	case unkept:
		s.unkept = err
	default:
		s.close()
		return nil, err
	}
	return s, nil
}

// goesOn reports whether s can be read though what comes is not kept: the front of a
// pull that goes on is here, and the rest is passed on behind it, see prepare.
func (s *fillSource) goesOn(err error) bool {
	_, unkept := errors.AsType[keepError](err)
	return unkept && s.t.whole && s.t.pos > 0 && s.n >= 0
}

func openEnded(r oci.RangeSpec) bool { return r.First >= 0 && r.Last < 0 }

// farAway is beyond the end of any blob; offsets below it can be counted up from.
const farAway = 1 << 60

// headSize asks upstream for the size, for a range that counts from the end.
func (f *fill) headSize(ctx context.Context, who asker) error {
	f.mu.Lock()
	known := f.size >= 0
	f.mu.Unlock()
	if known {
		return nil
	}
	n, err := f.p.headOf(ctx, who.up, who.repo, f.d, false)
	if err != nil {
		return err
	}
	f.answeredFor(who)
	return f.learnSize(n)
}

func (s *fillSource) size() int64 { return s.n }

// prepare waits for the first byte of r.
func (s *fillSource) prepare(ctx context.Context, r oci.Range) (outcome, error) {
	t := s.readerFor(r)
	_, err := t.ready(ctx)
	out := outcomeFollow
	switch {
	case t.here:
		out = outcomeHit
	case t.fetches, s.made:
		out = outcomeMiss
	}
	if cause, ok := errors.AsType[keepError](err); ok && t.whole && t.pos > 0 { // what is before it is here
		s.rest, err = t.holdRest(ctx, cause)
		return outcomeMiss, err
	}
	if err != nil && err != io.EOF { //nolint:errorlint // ready gives it bare
		return out, err
	}
	return out, nil
}

// readerFor gives a reader of r: the first one again where it is the same. What was
// fetched for that was fetched for this one.
func (s *fillSource) readerFor(r oci.Range) *reader {
	first := s.t
	switch {
	case s.t.whole && s.t.pos == r.Off && r.End == s.n: // all of it, or the rest of a pull that broke off
	case r.Off == 0 && r.End == s.n: // all of it, however it was asked for
		s.t = s.f.newReader(s.who, s.spare, oci.Range{Off: 0, End: -1}, true, false)
	case s.t.pos == r.Off && !s.t.whole && (s.t.end == r.End || (s.t.end < 0 && r.End == s.n)):
		s.t.end = r.End
	default:
		s.t = s.f.newReader(s.who, s.spare, r, false, s.open && r.Off > 0 && r.End == s.n)
	}
	s.t.fetches = s.t.fetches || first.fetches
	s.t.here = s.t.here && (first == s.t || !first.fetches)
	return s.t
}

func (s *fillSource) copyRange(ctx context.Context, w io.Writer, r oci.Range) error {
	if s.rest != nil {
		return s.rest.copy(w)
	}
	t := s.readerFor(r)
	err := t.copy(ctx, w)
	if cause, ok := errors.AsType[keepError](err); ok {
		return t.passRest(ctx, w, cause)
	}
	return err
}

func (s *fillSource) close() {
	if s.rest != nil {
		s.rest.close()
	}
	s.f.leave(s.spare)
	s.f.release()
}
