package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// pump goes through a fill's blob once, from the first byte to the last, and
// hashes it: bytes that are here from the file, the others from upstream.
type pump struct {
	f      *fill
	cancel context.CancelCauseFunc
	hash   hash.Hash
	pos    int64
	body   *upstream.Body // open at pos; nil: none
	by     asker          // by whose right it was asked for
	heir   *spare         // of body, where the store does not take it; nil: nobody
	heard  bool           // upstream told it the size that is known; f.mu guards it
	again  bool           // it contradicted that, and was asked again
	synced int64          // pos at the last checkpoint
	filing chan struct{}  // one checkpoint at a time
}

// pumping is a fill's pump, and what the last one came to.
type pumping struct {
	pump    *pump     // nil: none at work
	pumpErr error     // of the last pump
	pumpAt  int64     // where the pump is
	began   time.Time // when it began, and had so many bytes to begin with
	had     int64
}

// pumpOnce starts the pump unless one is at work or the blob is verified. What it
// opened and has no room for is heir's, if that is not nil.
func (f *fill) pumpOnce(heir *spare) (started bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pump != nil || f.verified || f.closing || f.err != nil {
		return false
	}
	ctx, cancel := context.WithCancelCause(f.p.life)
	m := &pump{f: f, by: f.lead, heir: heir, cancel: cancel, hash: f.d.Algorithm().Hash(), filing: make(chan struct{}, 1)}
	f.pump, f.pumpErr, f.pumpAt = m, nil, 0
	f.began, f.had = time.Now(), f.have.Bytes()
	size := f.size
	if !f.p.work.start(func() { m.run(ctx) }) {
		cancel(errShutdown)
		f.pump, f.pumpErr = nil, errShutdown
		f.changedLocked()
		return false
	}
	f.p.whenFiled(func() { f.p.index.Tap(f.d, size, f.tapReader) })
	return true
}

// run is the pump's goroutine.
func (m *pump) run(ctx context.Context) {
	defer func() { m.cancel(nil) }() // the one that it has in the end, see bequeath
	f := m.f
	err := m.begin(ctx)
	if err == nil {
		err = m.through(ctx)
	} else {
		err = m.openSpare(ctx, err)
	}
	if m.body != nil {
		_ = m.body.Close() // nothing more is read from it
	}
	m.filing <- struct{}{} // the last checkpoint is done
	if err == nil {
		err = m.finish(ctx)
	}
	if errors.Is(err, upstream.ErrDigest) {
		f.discard(context.WithoutCancel(ctx), err)
	}
	f.mu.Lock()
	f.pump, f.pumpErr = nil, err
	if blames(err) && context.Cause(ctx) == nil {
		f.faults.add(fault{whole: true, by: m.by, err: err})
	}
	f.changedLocked()
	last := f.idleLocked()
	f.mu.Unlock()
	if err != nil && context.Cause(ctx) == nil && !errors.Is(err, upstream.ErrDigest) { // else discard has told it
		level := slog.LevelWarn
		if upstream.IsNotFound(err) || !f.p.tellsUnkept(err) { // a client asked for what is not there
			level = slog.LevelDebug
		}
		f.p.log.Log(ctx, level, "blob not fetched", "digest", f.d, "repo", m.by.repo, "upstream", f.up.Name, "err", err)
	}
	if last {
		f.putAway()
	}
}

// through reads and hashes to the end of the blob.
func (m *pump) through(ctx context.Context) error {
	f := m.f
	in := f.p.newIntake()
	defer in.close()
	for {
		f.mu.Lock()
		size, here := f.size, f.have.At(m.pos)
		var wait <-chan struct{}
		if f.busy.At(m.pos) > m.pos {
			wait = f.waitLocked()
		}
		f.pumpAt = m.pos
		f.mu.Unlock()
		if size >= 0 && m.pos >= size {
			return nil
		}
		if here > m.pos {
			m.drop()
			var err error
			if m.pos, err = f.hashPart(ctx, m.hash, oci.Range{Off: m.pos, End: here}, in.buf); err != nil {
				return err
			}
			continue
		}
		if wait != nil { // a ranged transfer brings it
			m.drop()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := m.step(ctx, in); err != nil {
			return err
		}
	}
}

// step takes the next bytes from upstream.
func (m *pump) step(ctx context.Context, in *intake) error {
	if err := m.connect(ctx); err != nil || m.body == nil {
		return m.askAgain(err)
	}
	p, err := in.read(m.body)
	if len(p) > 0 {
		m.f.p.metrics.upstreamBytes.Add(float64(len(p)))
		if aerr := m.absorb(p); aerr != nil {
			return aerr
		}
		m.checkpoint(ctx)
		if m.body == nil { // let go of: not all that was read was taken
			return nil
		}
	}
	switch {
	case errors.Is(err, io.EOF) && m.body.Range().End >= 0: // as announced: maybe less than the blob
		m.drop()
	case errors.Is(err, io.EOF):
		m.drop()
		return m.f.learnEnd(m.pos)
	case err != nil:
		m.drop()
		if ended, err := m.f.endsAt(m.pos, err); ended {
			return m.askAgain(err)
		}
		return fmt.Errorf("fetch %s: %w", m.f.d, err)
	}
	return nil
}

// connect opens upstream at the pump's place, up to the next run that is here
// or on its way. The first answer proves the repository's right and tells the
// size.
func (m *pump) connect(ctx context.Context) error {
	if m.body != nil {
		return nil
	}
	f := m.f
	r := oci.Range{Off: m.pos, End: -1}
	f.mu.Lock()
	const never = 1 << 62
	if next := min(f.have.Next(m.pos, never), f.busy.Next(m.pos, never)); next < never {
		r.End = next
	}
	f.mu.Unlock()
	if r.End == m.pos { // claimed since we looked: through waits for it
		return nil
	}
	m.by = f.asks()
	body, err := m.by.up.Registry.Blob(ctx, m.by.repo.Name, f.d, r)
	if err != nil {
		if ended, err := f.endsAt(m.pos, err); ended {
			f.answeredFor(m.by)
			return errors.Join(err, m.makeRoom(ctx))
		}
		return fmt.Errorf("fetch %s from %s: %w", f.d, m.by.repo, err)
	}
	m.body = body
	f.answeredFor(m.by)
	if err := m.learnSize(body.Size()); err != nil {
		return err
	}
	err = m.makeRoom(ctx)
	if _, unkept := errors.AsType[keepError](err); unkept && r.End < 0 {
		m.bequeath(ctx)
	}
	return err
}

// makeRoom reserves room for the whole blob once its size is known; before that
// no whole reader gets a byte, since until then it can still be passed on.
func (m *pump) makeRoom(ctx context.Context) error {
	f := m.f
	f.mu.Lock()
	size, roomy := f.size, f.roomy
	f.mu.Unlock()
	if roomy {
		return nil
	}
	if size >= 0 {
		if err := m.reserve(ctx, size); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.roomy = size >= 0 || f.answered
	f.changedLocked()
	f.mu.Unlock()
	return nil
}

func (m *pump) reserve(ctx context.Context, size int64) error {
	if err := m.f.part.Reserve(ctx, size); err != nil {
		return keepError{fmt.Errorf("make room for %s: %w", m.f.d, err)}
	}
	return nil
}

func (m *pump) drop() {
	if m.body != nil {
		_ = m.body.Close() // read to its end, or given up
		m.body = nil
	}
}

// absorb writes and hashes p, up to where somebody else has or brings the bytes:
// there it lets go of upstream, since it must not hold a connection while it
// waits for a transfer that may need one, and through goes on.
func (m *pump) absorb(p []byte) error {
	f := m.f
	for len(p) > 0 {
		got, state := f.claim(oci.Range{Off: m.pos, End: m.pos + int64(len(p))})
		if state != claimOurs {
			m.drop()
			return nil
		}
		if _, err := f.part.WriteAt(p[:got.Len()], got.Off); err != nil {
			f.unclaim(got)
			return keepError{fmt.Errorf("write partial %s: %w", f.d, err)}
		}
		f.landed(got)
		m.hash.Write(p[:got.Len()]) // never fails
		p = p[got.Len():]
		m.pos = got.End
	}
	return nil
}

// hashPart hashes r, which is in the file, and says how far it came: that takes
// seconds, for a large one, and ends with ctx.
func (f *fill) hashPart(ctx context.Context, to io.Writer, r oci.Range, buf []byte) (end int64, err error) {
	for r.Off < r.End {
		if ctx.Err() != nil {
			return r.Off, context.Cause(ctx)
		}
		n, err := f.part.ReadAt(buf[:min(int64(len(buf)), r.Len())], r.Off)
		if n == 0 && err != nil {
			return r.Off, fmt.Errorf("read partial %s: %w", f.d, err)
		}
		_, _ = to.Write(buf[:n]) // a hash never fails
		r.Off += int64(n)
	}
	return r.Off, nil
}

// checkpoint files, beside the transfer, what a restart may go on from.
func (m *pump) checkpoint(ctx context.Context) {
	if m.pos-m.synced < syncEvery {
		return
	}
	select {
	case m.filing <- struct{}{}:
	default:
		return // the last one is still at work
	}
	m.synced = m.pos
	f := m.f
	f.mu.Lock()
	size, have := f.size, slices.Clone(f.have)
	f.mu.Unlock()
	started := f.p.work.start(func() {
		defer func() { <-m.filing }()
		if err := f.part.Checkpoint(ctx, size, have); err != nil && ctx.Err() == nil {
			f.p.log.Warn("partial blob not filed", "digest", f.d, "err", err)
		}
	})
	if !started {
		<-m.filing
	}
}

// finish compares the digest and gives the blob its name. Readers get the last
// bytes only now.
func (m *pump) finish(ctx context.Context) error {
	f := m.f
	if got := fmt.Sprintf("%x", m.hash.Sum(nil)); got != f.d.Encoded() {
		return fmt.Errorf("%w: want %s, got %s:%s from %s", upstream.ErrDigest, f.d, f.d.Algorithm(), got, f.up.Name)
	}
	err := f.part.Promote(context.WithoutCancel(ctx), storage.KindBlob, m.pos)
	f.mu.Lock()
	detached := f.detached
	f.mu.Unlock()
	if err != nil && !detached {
		// The bytes are right: whoever reads gets them. They are not kept.
		f.p.passed(ctx, m.by.repo, f.d, err)
	}
	f.mu.Lock()
	f.verified = true
	f.changedLocked()
	f.mu.Unlock()
	if detached {
		return nil
	}
	f.p.whenFiled(func() { f.p.index.Whole(f.d) })
	return nil
}

// discard drops bytes that are not what their digest says. Whoever reads them
// is cut off; whoever comes from that moment on waits until they are gone, and
// begins a fill of its own.
func (f *fill) discard(ctx context.Context, err error) {
	f.mu.Lock()
	again, found := f.err != nil, f.found
	if found {
		err = leftError{err}
	}
	f.have, f.wanted, f.size, f.err = nil, nil, -1, err
	if !again {
		f.dropped = make(chan struct{})
	}
	by := f.lead
	f.changedLocked()
	f.mu.Unlock()
	if again {
		return
	}
	if found {
		f.p.log.Error("what was kept of a blob from before, or what the upstream sent, is wrong; nothing was kept, the next pull begins anew", "digest", f.d, "repo", by.repo, "upstream", f.up.Name, "err", err)
	} else {
		f.p.reject(f.up, f.d)
		f.p.log.Error("upstream sent wrong bytes; nothing was kept", "digest", f.d, "repo", by.repo, "upstream", f.up.Name, "err", err)
	}
	if err := errors.Join(f.part.Discard(ctx), f.part.Close()); err != nil {
		f.p.log.Error("wrong bytes not removed", "digest", f.d, "err", err)
	}
	f.forget()
	close(f.dropped)
}
