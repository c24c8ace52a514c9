package proxy

import (
	"context"

	"github.com/sociable/sociable/internal/upstream"
)

// spare is what a fill's pump opened of the blob before there turned out to be no
// room for it: who waited for that has it sent from there, and upstream is not asked
// twice. Its fill's mu guards it.
type spare struct {
	who  asker
	left bool           // who is gone, or has it
	body *upstream.Body // from the first byte, of which none was read; nil: none
	end  context.CancelCauseFunc
}

// bequeath leaves the body to the pump's heir, where it was asked for in the heir's
// name and the heir is there. Its life goes with it.
func (m *pump) bequeath() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if to := m.heir; m.pos == 0 && to != nil && !to.left && to.body == nil && m.by.up == to.who.up && m.by.repo == to.who.repo {
		to.body, to.end = m.body, m.cancel
		m.body, m.cancel = nil, func(error) {}
	}
}

// inherit takes what was left, if anything was.
func (f *fill) inherit(sp *spare) (*upstream.Body, context.CancelCauseFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, end := sp.body, sp.end
	sp.left, sp.body, sp.end = true, nil, nil
	return body, end
}

// leave gives up what was left, or would be.
func (f *fill) leave(sp *spare) {
	if body, end := f.inherit(sp); body != nil {
		_ = body.Close() // nothing was read from it
		end(nil)
	}
}
