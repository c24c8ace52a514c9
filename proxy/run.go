package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// run is one ranged transfer into a fill.
type run struct {
	oci.Range
	at     atomic.Int64 // how far it is
	by     asker        // by whose right it is asked for
	cancel context.CancelCauseFunc
}

// littleLeft is what a transfer may still bring when nobody waits any more: it
// is on the wire already.
const littleLeft = 2 * cell

// want asks for the cells that cover r, as far as nobody has or brings them, and
// says whether that is any of them.
func (f *fill) want(r oci.Range) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news = f.addLocked(r)
	f.scheduleLocked()
	return news
}

// addLocked is want, which begins nothing.
func (f *fill) addLocked(r oci.Range) (news bool) {
	r.Off -= r.Off % cell
	r.End += (cell - r.End%cell) % cell
	if f.size >= 0 {
		r.End = min(r.End, f.size)
	}
	for _, m := range f.have.Missing(r) {
		for _, n := range f.busy.Missing(m) {
			news = news || len(f.wanted.Missing(n)) > 0
			f.wanted.Add(n)
		}
	}
	return news
}

// scheduleLocked starts transfers for what is wanted, within maxRuns. What
// became wanted while they were at work has merged into few runs.
func (f *fill) scheduleLocked() {
	for len(f.runs) < maxRuns && len(f.wanted) > 0 && !f.closing && f.err == nil && f.refs > 0 {
		r := f.wanted[0]
		r.End = min(r.End, r.Off+maxRunBytes)
		f.wanted.Sub(r)
		f.busy.Add(r)
		ctx, cancel := context.WithCancelCause(f.p.life)
		t := &run{Range: r, by: f.lead, cancel: cancel}
		t.at.Store(r.Off)
		f.runs[t] = struct{}{}
		if !f.p.work.start(func() { f.transfer(ctx, t) }) {
			cancel(errShutdown)
			delete(f.runs, t)
			f.busy.Sub(r)
			f.faults.add(fault{Range: r, by: t.by, err: errShutdown})
			f.changedLocked()
			return
		}
	}
}

// transfer brings one run; it is the run's goroutine.
func (f *fill) transfer(ctx context.Context, t *run) {
	defer t.cancel(nil)
	rest, err := f.bring(ctx, t)
	if errors.Is(err, upstream.ErrDigest) {
		f.discard(context.WithoutCancel(ctx), err)
	}
	f.mu.Lock()
	size := f.size
	if err == nil && rest.Len() > 0 && (size < 0 || rest.Off < size) {
		err = fmt.Errorf("fetch %s: %w", f.d, nonsense(f.up, fmt.Sprintf("nothing of bytes %d-%d", rest.Off, rest.End-1)))
	}
	f.busy.Sub(rest)
	delete(f.runs, t)
	if err != nil && context.Cause(ctx) != errStopped { //nolint:errorlint // the very value
		f.faults.add(fault{Range: rest, by: t.by, err: err})
	}
	f.scheduleLocked()
	f.changedLocked()
	last := f.idleLocked()
	f.mu.Unlock()
	f.p.brought(t.by.up, t.by.repo, f.d, 0, rest.Off-t.Off, size)
	if last {
		f.putAway()
	}
}

// bring copies a run from upstream into the file and returns what of it did not
// come. A blob that turns out to end before r does is no error.
func (f *fill) bring(ctx context.Context, t *run) (oci.Range, error) {
	again := false
	for r := t.Range; ; {
		rest, err := f.ask(ctx, t, r)
		if ended, eerr := f.endsAt(rest.Off, err); ended {
			f.answeredFor(t.by)
			if err = eerr; err == nil {
				return rest, nil // transfer finds out whether it should have had bytes
			}
		}
		if resized(err) && !again {
			again, r = true, rest
			f.p.doubt(t.by.up, f.d)
			continue
		}
		if err != nil || rest.Len() == 0 || rest.Off == r.Off || f.knownSize() >= 0 {
			return rest, err
		}
		r = rest // less than was asked for, of a blob whose size nobody told: there may be more
	}
}

// ask copies r from upstream into the file and returns what of it did not come.
func (f *fill) ask(ctx context.Context, t *run, r oci.Range) (rest oci.Range, err error) {
	f.mu.Lock()
	room := f.have.Bytes() + f.busy.Bytes()
	f.mu.Unlock()
	if err := f.part.Reserve(ctx, room); err != nil { // before upstream is asked for what could not be kept
		return r, keepError{fmt.Errorf("make room for %s: %w", f.d, err)}
	}
	body, err := t.by.up.Registry.Blob(ctx, t.by.repo.Name, f.d, r)
	if err != nil {
		return r, fmt.Errorf("fetch bytes %d-%d of %s: %w", r.Off, r.End-1, f.d, err)
	}
	defer body.Close()
	f.answeredFor(t.by)
	if err := f.learnSize(body.Size()); err != nil {
		return r, err
	}
	buf := f.p.bufs.get()
	defer f.p.bufs.put(buf)
	for r.Off < r.End {
		n, err := body.Read(buf[:min(int64(len(buf)), r.Len())])
		if n > 0 {
			if _, werr := f.part.WriteAt(buf[:n], r.Off); werr != nil {
				return r, keepError{fmt.Errorf("write partial %s: %w", f.d, werr)}
			}
			f.p.metrics.upstreamBytes.Add(float64(n))
			f.landed(oci.Range{Off: r.Off, End: r.Off + int64(n)})
			r.Off += int64(n)
			t.at.Store(r.Off)
		}
		if errors.Is(err, io.EOF) {
			if body.Range().End < 0 { // nobody announced it: the blob's own end
				return r, f.learnEnd(r.Off)
			}
			return r, nil
		}
		if err != nil {
			return r, fmt.Errorf("fetch bytes %d-%d of %s: %w", r.Off, r.End-1, f.d, err)
		}
	}
	return r, nil
}
