package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sociable/sociable/internal/oci"
)

// spare is for what a fill's pump opens of the blob before there turns out to be no
// room for it: who waits for that has it sent from there, and upstream is not asked
// again. Its fill's mu guards it.
type spare struct {
	who   asker
	body  io.ReadCloser           // from the first byte, of which none was read; nil: none
	first bool                    // it is for this one that it was opened
	end   context.CancelCauseFunc // of body's life; nil: it sees to that
}

// openSpare opens the blob for those who wait for all of it, where there turned out to be
// no room before upstream was asked, since the size was known: who comes meanwhile
// has it from there as well. It gives err back, or why upstream does not send the blob.
func (m *pump) openSpare(ctx context.Context, err error) error {
	f := m.f
	f.mu.Lock()
	vain := f.roomy || len(f.heirs) == 0 // they have some of it, or nobody is to have it sent
	f.mu.Unlock()
	if _, unkept := errors.AsType[keepError](err); !unkept || vain {
		return err
	}
	m.by = f.asks()
	body, failed := m.by.up.Registry.Blob(ctx, m.by.repo.Name, f.d, oci.Range{Off: 0, End: -1})
	if failed != nil {
		return fmt.Errorf("fetch %s from %s: %w", f.d, m.by.repo, failed)
	}
	m.body = body
	f.answeredFor(m.by)
	if m.learnSize(body.Size()) == nil { // else each asks, and is told
		m.bequeath(ctx)
	}
	return err
}

// bequeath leaves the body to those who wait for it and in whose name it was asked for,
// all of them or the one for whom it was opened. Its life goes with it.
func (m *pump) bequeath(ctx context.Context) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	var to []*spare
	for sp := range f.heirs {
		if m.pos == 0 && sp.body == nil && sp.who.up == m.by.up && sp.who.repo == m.by.repo {
			to = append(to, sp)
		}
	}
	if len(to) > 1 {
		for i, t := range f.share(ctx, m.cancel, m.by, m.body, len(to)) {
			to[i].body, to[i].first = t, to[i] == m.heir
			m.body = nil
		}
	}
	if m.body != nil && slices.Contains(to, m.heir) {
		m.heir.body, m.heir.end, m.heir.first = m.body, m.cancel, true
		m.body = nil
	}
	if m.body == nil {
		m.cancel = func(error) {}
	}
}

// inherits says that sp is there.
func (f *fill) inherits(sp *spare) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.heirs == nil {
		f.heirs = map[*spare]struct{}{}
	}
	f.heirs[sp] = struct{}{}
}

// inherit takes what was left, if anything was; nothing will be any more.
func (f *fill) inherit(sp *spare) (io.ReadCloser, context.CancelCauseFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.heirs, sp)
	body, end := sp.body, sp.end
	sp.body, sp.end = nil, nil
	return body, end
}

// leave gives up what was left, or would be.
func (f *fill) leave(sp *spare) {
	if body, end := f.inherit(sp); body != nil {
		_ = body.Close() // nothing was read from it
		if end != nil {
			end(nil)
		}
	}
}
