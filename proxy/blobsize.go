package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// The first answer that tells a blob's size is believed, and the digest decides in the
// end. A later one that tells another may be one sick server's of many behind a name:
// who asked for it is told, after upstream was asked again, and nobody else.

// resizedError is an answer that contradicts the size that is known. It is an upstream's
// that is not available.
type resizedError struct{ *upstream.ProtocolError }

func (e resizedError) Unwrap() error { return e.ProtocolError }

func resized(err error) bool {
	_, ok := errors.AsType[resizedError](err)
	return ok
}

// votes are upstream's answers on the size that is known.
type votes struct {
	told    int // how many told it, up to mostTold
	against int // how many contradicted it, since the last that told it
}

// mostTold bounds how many answers it takes to give a wrong size up.
const mostTold = 4

// learnSize takes the size that upstream named; a second, different one is a resizedError.
// It is an ErrDigest, which gives up what came so far, when more answers in a row
// contradict the first than told it: then the first may have been the lie. While a pump
// is at work that was told the same, its digest will show that.
func (f *fill) learnSize(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.answered {
		f.answered = true
		f.changedLocked()
	}
	switch {
	case size < 0:
		return nil
	case f.size == size:
		f.said = votes{told: min(f.said.told+1, mostTold)}
		return nil
	case f.size >= 0:
		return f.contradictedLocked(fmt.Sprintf("%s has %d bytes, and it had %d", f.d, size, f.size))
	}
	f.size, f.said = size, votes{told: 1}
	f.wanted.Sub(oci.Range{Off: size, End: 1<<63 - 1})
	f.changedLocked()
	return nil
}

// contradicted is learnSize of an answer that tells no size, and denies bytes in front
// of the one that is known.
func (f *fill) contradicted(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contradictedLocked(what)
}

func (f *fill) contradictedLocked(what string) error {
	f.said.against++
	vouched := f.verified || f.pump != nil && f.pump.heard
	if !vouched && f.said.against > max(1, f.said.told) { // what was found here was told once
		return fmt.Errorf("%w: upstream %s changes the size: %s", upstream.ErrDigest, f.up.Name, what)
	}
	return resizedError{nonsense(f.up, what)}
}

// nonsense is an answer about a blob that cannot be true.
func nonsense(up *Upstream, what string) *upstream.ProtocolError {
	return &upstream.ProtocolError{Upstream: up.Name, Op: "blob", Reason: what}
}

// fault gives what failed for a range of the blob its code. There are bytes in it, as
// far as the blob's size is known here: who denies them is in trouble.
func (a *ask) fault(err error) error {
	if _, ok := errors.AsType[*upstream.RangeError](err); ok {
		err = nonsense(a.up, err.Error())
	}
	return blobError(a.d, err)
}

// fetchTwice is fetchRun, and once more where the answer contradicts the layer's size,
// which is known: by telling another, or denying bytes.
func (s *spanSource) fetchTwice(ctx context.Context, run []wantedSpan, landed func(error)) (int64, error) {
	bytes, err := s.fetchRun(ctx, run, s.upstreamBody, landed)
	if _, denied := errors.AsType[*upstream.RangeError](err); !denied && !errors.Is(err, upstream.ErrDigest) {
		return bytes, err
	}
	s.p.doubt(s.up, s.layer.Digest)
	return s.fetchRun(ctx, run, s.upstreamBody, landed) // nothing came of the first
}

// learnSize is the fill's, of an answer to the pump.
func (m *pump) learnSize(size int64) error {
	err := m.f.learnSize(size)
	if err == nil && size >= 0 {
		m.f.mu.Lock()
		m.heard, m.again = true, false
		m.f.mu.Unlock()
	}
	return err
}

// askAgain lets go of an answer that contradicts the size, and gives err back when the
// one before did so, too.
func (m *pump) askAgain(err error) error {
	if m.again || !resized(err) {
		return err
	}
	m.again = true
	m.drop()
	m.f.p.doubt(m.by.up, m.f.d)
	return nil
}
