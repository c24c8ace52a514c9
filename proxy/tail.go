package proxy

import (
	"context"
	"errors"
	"io"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

const (
	// firstAhead and maxAhead bound how far an open-ended range is fetched
	// ahead of its reader, who may hang up at any time.
	firstAhead = 512 << 10
	maxAhead   = 16 << 20
	// nearPump is how far in front of the pump a ranged reader waits for it
	// instead of asking upstream.
	nearPump = 4 << 20
)

// reader follows a fill from pos on. It is one client's, and not safe for
// concurrent use.
type reader struct {
	f     *fill
	who   asker
	pos   int64
	end   int64 // -1: the end of the blob, not known yet
	whole bool  // follows the pump and never gets its last bytes unverified
	open  bool  // an open-ended range: fetched little by little
	ahead int64 // how much is asked for at once, in front of pos
	asked int64 // up to where it was
	seen  int   // faults it has looked at
	keeps bool  // of no use where the blob is not kept: it is no client's
	// spare is for what its pump opens, if it starts one.
	spare *spare
	// failed is the first for whom the upstream was not available meanwhile.
	failed *asker

	here    bool // all of it was, before anything was asked for
	fetches bool // it is this reader for whom what it reads is fetched
}

// newReader reads r for who. A whole reader starts the pump, whose heir sp is. One is
// also who goes on with a pull that broke off, "bytes=N-" where all before is here: what
// it has then is the blob, and must have been verified.
func (f *fill) newReader(who asker, sp *spare, r oci.Range, whole, open bool) *reader {
	f.mu.Lock()
	whole = whole || open && r.Off > 0 && f.have.At(0) >= r.Off
	t := &reader{f: f, who: who, spare: sp, pos: r.Off, end: r.End, whole: whole, open: open, ahead: maxAhead, asked: r.Off, seen: f.faults.end()}
	if open {
		t.ahead = firstAhead
	}
	end := r.End
	if f.size >= 0 && (end < 0 || end > f.size) {
		end = f.size
	}
	front := f.have.At(r.Off)
	t.here = end >= 0 && front >= end
	t.fetches = !t.here && front > r.Off && f.pump == nil && f.busy.At(front) <= front && f.wanted.At(front) <= front
	f.mu.Unlock()
	if whole {
		if r.Off == 0 {
			f.inherits(sp)
		}
		t.fetches = f.pumpOnce(sp)
	}
	return t
}

// ready waits until some bytes at the reader's place may be read and returns
// where they end; io.EOF behind the last.
func (t *reader) ready(ctx context.Context) (int64, error) {
	for {
		end, wait, err := t.look()
		if err != nil || end > t.pos {
			return end, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// look says how far the reader may read now; at its own place: not yet.
func (t *reader) look() (int64, <-chan struct{}, error) {
	f := t.f
	f.mu.Lock()
	if f.detached && t.keeps {
		f.mu.Unlock()
		return 0, nil, errPurged
	}
	if t.end < 0 && f.size >= 0 {
		t.end = f.size
	}
	if t.end >= 0 && t.pos >= t.end && (!t.whole || f.verified) {
		f.mu.Unlock()
		return 0, nil, io.EOF
	}
	t.completesLocked()
	end := t.limitLocked(f.have.At(t.pos))
	if end > t.pos {
		f.mu.Unlock()
		t.readAhead()
		return end, nil, nil
	}
	wait := f.waitLocked()
	err := t.brokenLocked()
	pumped := f.pump != nil && (t.whole || t.pos < f.pumpAt+nearPump)
	f.mu.Unlock()
	if t.revived(err) {
		return t.pos, wait, nil
	}
	if err == nil && !pumped && !t.whole {
		t.wantMore()
	}
	return t.pos, wait, err
}

// completesLocked has the reader of an open-ended range follow the pump at its end,
// where all before that is here by then: its client may have all of the blob.
func (t *reader) completesLocked() {
	f := t.f
	t.whole = t.whole || t.open && !f.verified && f.size >= 0 && t.end == f.size && f.have.At(0) >= max(t.pos, f.size-holdBack)
}

// limitLocked keeps the end of an unverified blob back from a reader that
// would then have all of it: also where it goes on with what broke off, "bytes=N-".
// Who asks for a range with an end wants that, a lazy client its last span for
// one, and has it as soon as it is here.
func (t *reader) limitLocked(end int64) int64 {
	f := t.f
	if t.end >= 0 {
		end = min(end, t.end)
	}
	if f.verified || (!t.whole && (!t.open || f.pump == nil || f.size < 0 || t.end < f.size)) {
		return end
	}
	if t.whole && !f.roomy {
		return t.pos
	}
	last := f.size
	if last < 0 {
		last = f.pumpAt
	}
	return max(t.pos, min(end, last-holdBack))
}

// brokenLocked says why the bytes at the reader's place will not come.
func (t *reader) brokenLocked() error {
	f := t.f
	if f.err != nil {
		return f.err
	}
	err := t.faultLocked()
	if err != nil || !t.whole || f.pump != nil || f.verified {
		return err
	}
	if f.pumpErr == nil || blames(f.pumpErr) && !t.who.nobody() { // another's: not ours
		return errStopped
	}
	return f.pumpErr
}

// revived starts the pump anew where err says that it was stopped as the last
// reader left, just before this one came.
func (t *reader) revived(err error) bool {
	if !t.whole || t.who.nobody() || !errors.Is(err, errStopped) || t.f.p.life.Err() != nil {
		return false
	}
	t.f.pumpOnce(t.spare)
	return true
}

// wantMore asks for what the reader waits for: once for as much as is to be had at
// once, and again for what of that did not come.
func (t *reader) wantMore() {
	if t.asked <= t.pos {
		t.asked = t.pos - t.pos%cell + t.ahead // whole cells: one transfer
		if t.end >= 0 {
			t.asked = min(t.asked, t.end)
		}
	}
	t.fetches = t.f.want(oci.Range{Off: t.pos, End: t.asked}) || t.fetches
}

// readAhead asks for more when half of what was asked for is read, so that a reader
// who goes on need not wait for it.
func (t *reader) readAhead() {
	if t.whole || t.end < 0 || t.asked >= t.end || t.asked <= t.pos || t.asked-t.pos > t.ahead/2 {
		return
	}
	t.ahead = min(2*t.ahead, maxAhead)
	from := t.asked
	t.asked = min(t.end, t.asked+t.ahead)
	t.f.want(oci.Range{Off: from, End: t.asked})
}

// copy writes everything up to the reader's end to w, behind the marks of
// those who fetch it. On a fault w has had less than the range.
func (t *reader) copy(ctx context.Context, w io.Writer) error {
	for {
		end, err := t.ready(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = t.pass(w, end)
		}
		if err != nil {
			return err
		}
	}
}

// pass writes what one buffer takes of the bytes up to end, which are here. Who
// waits for bytes holds no buffer: most readers do, most of the time.
func (t *reader) pass(w io.Writer, end int64) error {
	buf := t.f.p.bufs.get()
	defer t.f.p.bufs.put(buf)
	n, err := t.readTo(end, buf)
	if err != nil {
		return err
	}
	if _, err := w.Write(buf[:n]); err != nil {
		return clientError{err}
	}
	return nil
}

func (t *reader) read(ctx context.Context, buf []byte) (int, error) {
	end, err := t.ready(ctx)
	if err != nil {
		return 0, err
	}
	return t.readTo(end, buf)
}

// readTo reads bytes that are here, up to end at most.
func (t *reader) readTo(end int64, buf []byte) (int, error) {
	n, err := t.f.part.ReadAt(buf[:min(int64(len(buf)), end-t.pos)], t.pos)
	t.pos += int64(n)
	if n > 0 {
		return n, nil
	}
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	if t.f.err != nil { // why the file was closed under the read
		err = t.f.err
	}
	return 0, err
}

// sizeFor waits until upstream answered or the size is known, asking for the
// reader's first bytes on the way: the answer to them tells it. -1: upstream
// sends the blob without a length. Who is not entitled has the right by that
// answer: errUnproven where it is not, or will not be, for them.
func (f *fill) sizeFor(ctx context.Context, t *reader, entitled bool) (int64, error) {
	for {
		f.mu.Lock()
		size, answered, pumped, wait := f.size, f.answered, f.pump != nil, f.waitLocked()
		err := t.brokenLocked()
		if err == nil && !entitled && !f.mayLocked(t.who) {
			err = errUnproven
		}
		untold := err == nil && size < 0 && !t.whole && f.pump == nil && len(f.runs) == 0 && (answered || f.have.At(t.pos) > t.pos)
		f.mu.Unlock()
		if untold { // and nothing is under way that might tell
			return f.sizeByHead(ctx, t.who, answered)
		}
		if t.revived(err) {
			continue
		}
		if size >= 0 || answered || err != nil {
			return size, err
		}
		if !t.whole && !pumped { // the pump's first answer will tell
			t.wantMore()
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// tapReader gives the indexer the blob as it arrives; io.EOF means verified.
func (f *fill) tapReader() (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.detached {
		return nil, errPurged
	}
	if f.closing || (f.pump == nil && !f.verified) {
		return nil, upstream.ErrDigest
	}
	f.taps++
	ctx, cancel := context.WithCancel(f.p.life)
	return &tap{reader: &reader{f: f, end: -1, whole: true, keeps: true, seen: f.faults.end()}, ctx: ctx, cancel: cancel}, nil
}

// tap is a reader of the whole blob as an io.ReadCloser.
type tap struct {
	*reader
	ctx    context.Context // the tap's life: until it is closed
	cancel context.CancelFunc
}

func (t *tap) Read(p []byte) (int, error) { return t.read(t.ctx, p) }

// Close gives the fill back.
func (t *tap) Close() error {
	t.cancel()
	f := t.f
	f.mu.Lock()
	f.taps--
	last := f.idleLocked()
	f.mu.Unlock()
	if last {
		f.putAway()
	}
	return nil
}
